// Memory: the device's is address space that nothing has to fill, and copies are made where one side is the host's.
#include "null.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SPACE ((size_t)1 << 42)
#define PAGE ((size_t)1 << 21)
#define COPIED ((size_t)64 << 20)  // larger contents are nobody's business

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *space, *next;

void *device_memory(size_t bytes) {
    pthread_mutex_lock(&lock);
    if (!space)
        next = space = mmap(0, SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *made = next;
    next += (bytes + PAGE - 1) / PAGE * PAGE;
    pthread_mutex_unlock(&lock);
    return made;
}

int is_on_device(const void *address) {
    return space && (const char *)address >= space && (const char *)address < space + SPACE;
}

static struct block { char *start; size_t bytes; } pinned[1 << 16];
static int blocks;

static int is_pinned(const void *address) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < blocks && !found; i++)
        found = (char *)address >= pinned[i].start && (char *)address < pinned[i].start + pinned[i].bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

API cudaMalloc(void **made, size_t bytes) { forbidden_in_capture(); *made = device_memory(bytes); return 0; }
API cudaMallocAsync(void **made, size_t bytes) { *made = device_memory(bytes); return 0; }
API cudaFree(void *address) { if (address) forbidden_in_capture(); return 0; }
DOES_NOTHING(cudaFreeAsync)
API cudaMemGetInfo(size_t *free, size_t *total) { *free = 79000000000; *total = 85000000000; return 0; }

API cudaHostAlloc(void **made, size_t bytes) {
    forbidden_in_capture();
    if (posix_memalign(made, 4096, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
    pthread_mutex_lock(&lock);
    if (blocks < 1 << 16) pinned[blocks++] = (struct block){*made, bytes};
    pthread_mutex_unlock(&lock);
    return 0;
}
API cudaFreeHost(void *address) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < blocks; i++)
        if (pinned[i].start == address) pinned[i] = pinned[--blocks];
    pthread_mutex_unlock(&lock);
    free(address);
    return 0;
}
DOES_NOTHING(cudaHostRegister)
DOES_NOTHING(cudaHostUnregister)

static void copy(void *to, const void *from, size_t bytes) {
    if (is_on_device(to) && is_on_device(from)) {
        operation(ON_DEVICE, bytes);
        return;
    }
    if (is_on_device(to) && !is_pinned(from)) count(FROM_PAGEABLE, bytes);
    operation(is_on_device(to) ? TO_DEVICE : TO_HOST, bytes);
    if (bytes <= COPIED) memcpy(to, from, bytes);
}
static void set(void *to, int value, size_t bytes) {
    operation(ON_DEVICE, bytes);
    if (bytes <= PAGE) memset(to, value, bytes);
}
API cudaMemcpy(void *to, const void *from, size_t bytes) {
    forbidden_in_capture();
    copy(to, from, bytes);
    count(WAITS, 0);
    return 0;
}
API cudaMemcpyAsync(void *to, const void *from, size_t bytes) { copy(to, from, bytes); return 0; }
API cudaMemcpyPeerAsync(void *to, int device, const void *from, int other, size_t bytes) {
    copy(to, from, bytes);
    return 0;
}
API cuMemcpyDtoH_v2(void *to, const void *from, size_t bytes) { return cudaMemcpy(to, from, bytes); }
DOES_NOTHING(cudaMemcpyToSymbol)
API cudaMemset(void *to, int value, size_t bytes) { set(to, value, bytes); return 0; }
API cudaMemsetAsync(void *to, int value, size_t bytes) { set(to, value, bytes); return 0; }
API cudaGetSymbolAddress(void **address) { *address = device_memory(4096); return 0; }

API cudaPointerGetAttributes(struct cudaPointerAttributes *of, const void *address) {
    memset(of, 0, sizeof *of);
    of->hostPointer = of->devicePointer = (void *)address;
    of->type = is_pinned(address) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    if (is_on_device(address)) of->type = cudaMemoryTypeDevice, of->hostPointer = NULL;
    else if (of->type == cudaMemoryTypeUnregistered) of->devicePointer = NULL;
    return 0;
}
API cudaDeviceGetDefaultMemPool(void **pool) { *pool = handle(); return 0; }
API cudaMemPoolGetAttribute(void *pool, int which, uint64_t *value) { *value = 0; return 0; }
DOES_NOTHING(cudaMemPoolSetAttribute)
DOES_NOTHING(cudaMemPoolTrimTo)
