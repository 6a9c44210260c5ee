/* What the maps of mw_backend_ops make of one entry: the same for the CPU and in CUDA's kernels. */
#ifndef MICROW_BACKEND_ENTRY_MAP_H
#define MICROW_BACKEND_ENTRY_MAP_H

#include "microw/backend.h"

#include <math.h>

#ifdef __CUDACC__
#define MW_BOTH_SIDES static __host__ __device__ __forceinline__
#else
#define MW_BOTH_SIDES static inline
#endif

/* d tanh(c z s) / dz */
MW_BOTH_SIDES double mw_tanh_slope(double c, double z, double s) {
    double h = tanh(c * z * s);
    return c * s * (1 - h * h);
}

MW_BOTH_SIDES float mw_map_edge(const mw_entry_map *how, float x, int32_t i, float z) {
    double theta = how->table[1][i], g = x;
    if (how->table[0]) g += how->a * mw_tanh_slope(how->c, z > theta ? z : 0, how->table[0][i]);
    return (float)(theta * g + how->b);
}

/* x: what the entry has in `out`; i: its latent; z: its value. */
MW_BOTH_SIDES float mw_map_entry(const mw_entry_map *how, float x, int32_t i, float z) {
    const float *t0 = how->table[0];
    switch (how->map) {
    case MW_MAP_ADD:
        return x + (float)(how->a * (t0 ? t0[i] : 1));
    case MW_MAP_TIMES:
        return z * x;
    case MW_MAP_GATE:
        return z > 0 ? x * expf(t0[i]) : 0;
    case MW_MAP_MAGNITUDE:
        return fmaxf(expf(t0[i]) * (z - how->table[1][i]) + how->table[2][i], 0.0f);
    case MW_MAP_TANH:
        return (float)tanh(how->c * z * t0[i]);
    case MW_MAP_ADD_SLOPE:
        return x + (float)(how->a * mw_tanh_slope(how->c, z, t0[i]));
    case MW_MAP_EDGE:
        return mw_map_edge(how, x, i, z);
    }
    return x;
}

#endif
