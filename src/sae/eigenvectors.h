/* Eigenvectors of symmetric matrices. */
#ifndef MICROW_SAE_EIGENVECTORS_H
#define MICROW_SAE_EIGENVECTORS_H

#include "microw/base.h"

/* Replaces the symmetric matrix a [n, n] by its eigenvectors: rows of unit length, by falling eigenvalue, of which the
 * largest entry is positive. `value` [n] gets the eigenvalues. The same at any number of threads. Errors: MW_ERR_STATE
 * for a matrix that is not finite, MW_ERR_MEMORY. */
mw_status symmetric_eigenvectors(double *a, int64_t n, double *value) MW_MUST_USE;

#endif
