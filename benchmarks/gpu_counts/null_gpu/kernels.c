// Kernels: torch launches its own through the runtime, Triton's through the driver.
#include "null.h"
#include <dlfcn.h>
#include <string.h>

static int launched(void) { operation(KERNELS, 0); return 0; }
API cudaLaunchKernel(void) { return launched(); }
API cudaLaunchKernelExC(void) { return launched(); }
API __cudaLaunchKernel(void) { return launched(); }
API cudaLaunchCooperativeKernel(void) { return launched(); }
API cuLaunchKernel(void) { return launched(); }
API cuLaunchKernelEx(void) { return launched(); }
API cuLaunchCooperativeKernel(void) { return launched(); }

API cudaFuncGetAttributes(struct cudaFuncAttributes *of) {
    memset(of, 0, sizeof *of);
    of->maxThreadsPerBlock = 1024;
    of->numRegs = 32;
    of->ptxVersion = of->binaryVersion = 90;
    of->maxDynamicSharedSizeBytes = 49152;
    return 0;
}
DOES_NOTHING(cudaFuncSetAttribute)
API __cudaGetKernel(void **kernel, void *function) { *kernel = function; return 0; }
API cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks) { *blocks = 4; return 0; }
API cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { *blocks = 4; return 0; }

GIVES_HANDLE(cuModuleLoad)
GIVES_HANDLE(cuModuleLoadData)
GIVES_HANDLE(cuModuleLoadDataEx)
GIVES_HANDLE(cuModuleGetFunction)
DOES_NOTHING(cuModuleUnload)
API cuFuncGetAttribute(int *value, int which) {
    enum { MOST_THREADS = 0, REGISTERS = 4 };
    *value = which == MOST_THREADS ? 1024 : which == REGISTERS ? 32 : 0;
    return 0;
}
DOES_NOTHING(cuFuncSetAttribute)
DOES_NOTHING(cuFuncSetCacheConfig)
API cuOccupancyMaxActiveClusters(int *clusters) { *clusters = 8; return 0; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks) { *blocks = 4; return 0; }
DOES_NOTHING(cuTensorMapEncodeTiled)

// Torch looks the driver's functions up by name; what is not here does nothing when it is called.
static int nothing(void) { return 0; }
API cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags,
                                     enum cudaDriverEntryPointQueryResult *result) {
    *found = dlsym(RTLD_DEFAULT, name);
    if (!*found) *found = (void *)nothing;
    if (result) *result = 0;
    return 0;
}
