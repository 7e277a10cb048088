// The device: one, with an H100's properties, as far as kernels are chosen and compiled by them.
#include "null.h"
#include <stdio.h>
#include <string.h>

static const char NAME[] = "null GPU, like an H100";

static const struct { enum cudaDeviceAttr which; int value; } attributes[] = {
    {cudaDevAttrMaxThreadsPerBlock, 1024},
    {cudaDevAttrMaxBlockDimX, 1024},
    {cudaDevAttrMaxBlockDimY, 1024},
    {cudaDevAttrMaxBlockDimZ, 64},
    {cudaDevAttrMaxGridDimX, 2147483647},
    {cudaDevAttrMaxGridDimY, 65535},
    {cudaDevAttrMaxGridDimZ, 65535},
    {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
    {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
    {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
    {cudaDevAttrReservedSharedMemoryPerBlock, 1024},
    {cudaDevAttrMaxRegistersPerBlock, 65536},
    {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
    {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
    {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
    {cudaDevAttrMultiProcessorCount, 132},
    {cudaDevAttrWarpSize, 32},
    {cudaDevAttrComputeCapabilityMajor, 9},
    {cudaDevAttrComputeCapabilityMinor, 0},
    {cudaDevAttrL2CacheSize, 52428800},
    {cudaDevAttrClockRate, 1980000},
    {cudaDevAttrMemoryClockRate, 2619000},
    {cudaDevAttrGlobalMemoryBusWidth, 5120},
    {cudaDevAttrUnifiedAddressing, 1},
    {cudaDevAttrCooperativeLaunch, 1},
};
int device_attribute(int which) {
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if ((int)attributes[i].which == which) return attributes[i].value;
    return 0;
}
API cudaDeviceGetAttribute(int *value, int which) { *value = device_attribute(which); return 0; }
API cudaGetDeviceProperties(struct cudaDeviceProp *of) {
    memset(of, 0, sizeof *of);
    strcpy(of->name, NAME);
    of->major = 9;
    of->totalGlobalMem = 85000000000;
    of->multiProcessorCount = 132;
    of->warpSize = 32;
    of->maxThreadsPerBlock = of->maxThreadsDim[0] = of->maxThreadsDim[1] = 1024;
    of->maxThreadsDim[2] = 64;
    of->maxGridSize[0] = 2147483647;
    of->maxGridSize[1] = of->maxGridSize[2] = 65535;
    of->maxThreadsPerMultiProcessor = 2048;
    of->maxBlocksPerMultiProcessor = 32;
    of->regsPerBlock = of->regsPerMultiprocessor = 65536;
    of->totalConstMem = 65536;
    of->textureAlignment = 512;
    of->sharedMemPerBlock = 49152;
    of->sharedMemPerBlockOptin = 232448;
    of->sharedMemPerMultiprocessor = 233472;
    of->reservedSharedMemPerBlock = 1024;
    of->l2CacheSize = 52428800;
    of->memoryBusWidth = 5120;
    of->cooperativeLaunch = of->unifiedAddressing = of->canMapHostMemory = of->concurrentKernels = 1;
    return 0;
}
API cudaGetDeviceCount(int *found) { *found = 1; return 0; }
GIVES_ZERO(cudaGetDevice)
DOES_NOTHING(cudaSetDevice)
API cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
API cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
API cudaDeviceGetPCIBusId(char *text, int room) { snprintf(text, room, "0000:00:00.0"); return 0; }
GIVES_ZERO(cudaDeviceCanAccessPeer)
DOES_NOTHING(cudaDeviceEnablePeerAccess)
API cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }
API cudaDeviceSynchronize(void) { forbidden_in_capture(); count(WAITS, 0); return 0; }
DOES_NOTHING(cudaGetLastError)
DOES_NOTHING(cudaPeekAtLastError)
DOES_NOTHING(cudaProfilerStart)
DOES_NOTHING(cudaProfilerStop)

// The driver's own names for the same, which Triton uses.
DOES_NOTHING(cuInit)
API cuDriverGetVersion(int *version) { *version = 13000; return 0; }
GIVES_ZERO(cuDeviceGet)
API cuDeviceGetCount(int *found) { *found = 1; return 0; }
API cuDeviceGetName(char *text, int room) { snprintf(text, room, "%s", NAME); return 0; }
API cuDeviceGetAttribute(int *value, int which) { *value = device_attribute(which); return 0; }

static void *const CONTEXT = (void *)0x55;
API cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
API cuDevicePrimaryCtxRetain(void **context) { *context = CONTEXT; return 0; }
API cuCtxGetCurrent(void **context) { *context = CONTEXT; return 0; }
API cuCtxPopCurrent_v2(void **context) { *context = CONTEXT; return 0; }
API cuStreamGetCtx(void *stream, void **context) { *context = CONTEXT; return 0; }
GIVES_ZERO(cuCtxGetDevice)
DOES_NOTHING(cuCtxSetCurrent)
DOES_NOTHING(cuCtxPushCurrent_v2)
DOES_NOTHING(cuCtxGetLimit)
DOES_NOTHING(cuCtxSetLimit)
API cuGetErrorString(int error, const char **text) { *text = "an error of the null GPU"; return 0; }
API cuGetErrorName(int error, const char **text) { *text = "NULL_GPU"; return 0; }
API cuPointerGetAttribute(void **value, int which, void *address) { *value = address; return 0; }
