/* The table of a sweep's results. */
#ifndef MICROW_EXPERIMENT_SWEEP_SWEEP_TABLE_H
#define MICROW_EXPERIMENT_SWEEP_SWEEP_TABLE_H

#include "experiment/sweep/sweep.h"

/* Prints a table of the finished points, by L0 and then FVU, marks the best at their L0, and writes
 * runs/BASE/sweep.json, sweep.csv and pareto.gp, and pareto.svg if gnuplot is installed. Local. */
mw_status sweep_table(const sweep *s) MW_MUST_USE;

#endif
