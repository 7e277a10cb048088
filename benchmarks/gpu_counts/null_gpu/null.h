// A GPU that does nothing: what CUDA's libraries offer, as far as torch, cuBLAS' callers and Triton ask for it.
//
// Device tensors have memory and kernels are launched, but none runs, so values are garbage. The host's side is real:
// what is launched, copied and waited for, and what the host spends on it. Made for CUDA 13; see launch.py.
#pragma once
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include "driver_types.h"

// What is counted; launch.py has the same names in the same order.
enum count {
    KERNELS,          // launched one by one
    PRODUCTS,         // matrix products, likewise
    GRAPHS,           // graphs launched
    IN_GRAPHS,        // kernels, products and copies that those graphs hold
    TO_DEVICE,        // copies from the host to the device
    FROM_PAGEABLE,    // of them, out of memory that is not pinned: the host copies them itself
    TO_HOST,          // copies to the host
    ON_DEVICE,        // copies within the device, and memory set
    WAITS,            // the host waits for the device
    BROKEN_CAPTURES,  // calls that would make a capture of a graph fail
    COUNTS
};
void count(enum count what, size_t bytes);

// Every handle is different, so that a program can tell its streams, events and modules apart.
void *handle(void);

// Notes one operation for the device: in a graph, while one is captured, or else as `what`.
void operation(enum count what, size_t bytes);
// Notes a call that must not be made while a graph is captured, by CUDA's rules for the modes of capture.
void forbidden_in_capture(void);

int is_on_device(const void *address);
void *device_memory(size_t bytes);
int device_attribute(int which);

// Exported functions return 0, success. Callers clean the stack up, so a function may ignore all of its arguments.
#define API __attribute__((visibility("default"))) int
#define DOES_NOTHING(name) API name(void) { return 0; }
#define GIVES_HANDLE(name) API name(void **given) { *given = handle(); return 0; }
#define GIVES_ZERO(name) API name(int *given) { *given = 0; return 0; }
