// Streams, events, and the capture of graphs: what is launched meanwhile is noted in the graph and counted on replay.
#include "null.h"
#include <stdlib.h>

struct graph { long operations; };

// One capture at a time, which is all that torch makes.
static int captures;  // made so far: the number of the one that is on is its id
static int on;
static enum cudaStreamCaptureMode mode_of_capture;
static void *stream_of_capture;
static __thread int ours;  // this thread has begun the capture that is on
static __thread enum cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
static struct graph *graph;

void operation(enum count what, size_t bytes) {
    // Whichever thread it comes from: the backward pass is launched by a thread of autograd's.
    if (on) graph->operations++;
    else count(what, bytes);
}

void forbidden_in_capture(void) {
    if (!on || mode == cudaStreamCaptureModeRelaxed || mode_of_capture == cudaStreamCaptureModeRelaxed) return;
    int of_others = mode == cudaStreamCaptureModeGlobal && mode_of_capture == cudaStreamCaptureModeGlobal;
    if (ours || of_others) count(BROKEN_CAPTURES, 0);
}

API cudaStreamBeginCapture(void *stream, enum cudaStreamCaptureMode as) {
    graph = calloc(1, sizeof *graph);
    mode_of_capture = as;
    stream_of_capture = stream;
    on = ours = 1;
    captures++;
    return 0;
}
API cudaStreamEndCapture(void *stream, void **made) { *made = graph; on = ours = 0; return 0; }
API cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *with) {
    enum cudaStreamCaptureMode before = mode;
    mode = *with;
    *with = before;
    return 0;
}
static int status(void *stream) {
    return on && stream == stream_of_capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
}
API cudaStreamIsCapturing(void *stream, int *is) { *is = status(stream); return 0; }
API cuStreamIsCapturing(void *stream, int *is) { *is = status(stream); return 0; }
API cudaStreamGetCaptureInfo(void *stream, int *is, unsigned long long *id, void **of, const void ***needs,
                             const void **edges, size_t *number) {
    static const void *none[1];
    *is = status(stream);
    if (id) *id = captures;
    if (of) *of = graph;
    if (needs) *needs = none;
    if (edges) *edges = NULL;
    if (number) *number = 0;
    return 0;
}
API cudaGraphInstantiate(void **ready, void *of) { *ready = of; return 0; }
API cudaGraphInstantiateWithFlags(void **ready, void *of) { *ready = of; return 0; }
API cudaGraphLaunch(struct graph *ready) {
    count(GRAPHS, 0);
    for (long i = 0; i < ready->operations; i++) count(IN_GRAPHS, 0);
    return 0;
}
API cudaGraphGetNodes(struct graph *of, void *nodes, size_t *number) { *number = of->operations; return 0; }
API cudaGraphNodeGetDependencies(void *node, void *others, void *edges, size_t *number) { *number = 0; return 0; }
DOES_NOTHING(cudaGraphDestroy)  // a graph's memory is its instance's too
DOES_NOTHING(cudaGraphExecDestroy)

GIVES_HANDLE(cudaStreamCreate)
GIVES_HANDLE(cudaStreamCreateWithFlags)
GIVES_HANDLE(cudaStreamCreateWithPriority)
API cudaStreamGetPriority(void *stream, int *priority) { *priority = 0; return 0; }
DOES_NOTHING(cudaStreamDestroy)
API cudaStreamSynchronize(void *stream) { forbidden_in_capture(); count(WAITS, 0); return 0; }
API cuStreamSynchronize(void *stream) { forbidden_in_capture(); count(WAITS, 0); return 0; }
DOES_NOTHING(cudaStreamQuery)
DOES_NOTHING(cudaStreamWaitEvent)
DOES_NOTHING(cudaStreamAddCallback)
API cudaLaunchHostFunc(void *stream, void (*function)(void *), void *argument) { function(argument); return 0; }

GIVES_HANDLE(cudaEventCreate)
GIVES_HANDLE(cudaEventCreateWithFlags)
DOES_NOTHING(cudaEventDestroy)
DOES_NOTHING(cudaEventRecord)
DOES_NOTHING(cudaEventRecordWithFlags)
API cudaEventQuery(void *event) { forbidden_in_capture(); return 0; }
API cudaEventSynchronize(void *event) { forbidden_in_capture(); count(WAITS, 0); return 0; }
API cudaEventElapsedTime(float *milliseconds) { *milliseconds = 1; return 0; }
