// cuBLAS: a matrix product is one operation, whatever kernels the library would run for it.
#include "null.h"
#include <string.h>

static int product(void) { operation(PRODUCTS, 0); return 0; }
API cublasGemmEx(void) { return product(); }
API cublasGemmStridedBatchedEx(void) { return product(); }
API cublasSgemm_v2(void) { return product(); }
API cublasSgemmEx(void) { return product(); }
API cublasSgemmStridedBatched(void) { return product(); }
API cublasSgemv_v2(void) { return product(); }
API cublasSdot_v2(void) { return product(); }
API cublasDotEx(void) { return product(); }
API cublasLtMatmul(void) { return product(); }

GIVES_HANDLE(cublasCreate_v2)
DOES_NOTHING(cublasDestroy_v2)
DOES_NOTHING(cublasSetStream_v2)
DOES_NOTHING(cublasSetWorkspace_v2)
DOES_NOTHING(cublasSetMathMode)
API cublasGetMathMode(void *of, int *mode) { *mode = 0; return 0; }
DOES_NOTHING(cublasSetPointerMode_v2)
API cublasGetPointerMode_v2(void *of, int *mode) { *mode = 0; return 0; }

__attribute__((visibility("default"))) size_t cublasLtGetVersion(void) { return 130100; }
GIVES_HANDLE(cublasLtMatmulDescCreate)
DOES_NOTHING(cublasLtMatmulDescDestroy)
DOES_NOTHING(cublasLtMatmulDescSetAttribute)
GIVES_HANDLE(cublasLtMatmulPreferenceCreate)
DOES_NOTHING(cublasLtMatmulPreferenceDestroy)
DOES_NOTHING(cublasLtMatmulPreferenceSetAttribute)
GIVES_HANDLE(cublasLtMatrixLayoutCreate)
DOES_NOTHING(cublasLtMatrixLayoutDestroy)
DOES_NOTHING(cublasLtMatrixLayoutSetAttribute)
// One algorithm is found, and suits; 96 is the size of what is told of each.
API cublasLtMatmulAlgoGetHeuristic(void *of, void *product, void *a, void *b, void *c, void *d, void *wishes, int most,
                                   void *algorithms, int *found) {
    memset(algorithms, 0, 96);
    *found = 1;
    return 0;
}
