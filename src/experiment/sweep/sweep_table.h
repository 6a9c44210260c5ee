/* What the points of a sweep came to. */
#ifndef MICROW_EXPERIMENT_SWEEP_SWEEP_TABLE_H
#define MICROW_EXPERIMENT_SWEEP_SWEEP_TABLE_H

#include "experiment/sweep/sweep.h"

/* Prints a table of the finished points, best FVU first among equal L0, marks those that none is better than in both, and writes
 * runs/BASE/sweep.json, sweep.csv and pareto.gp; pareto.svg too where gnuplot is. */
mw_status sweep_table(const sweep *s) MW_MUST_USE;

#endif
