/* Figures drawn by gnuplot. Each is a script with its data, which stays, so that it can be made anew with other sizes. */
#ifndef MICROW_EXPERIMENT_FIGURES_FIGURE_H
#define MICROW_EXPERIMENT_FIGURES_FIGURE_H

#include "experiment/run/run.h"

typedef struct figure {
    const char *folder, *name; /* FOLDER/NAME.gp and .svg, .png or .pdf */
    mw_plot_format format;
    mw_text script;
} figure;

void figure_begin(figure *f, const char *folder, const char *name, mw_plot_format format, int width, int height);
/* A text in quotes that cannot end them. */
void figure_quote(figure *f, const char *text);
/* Writes the script and draws it, and prints what was made: a figure is nothing that a run may fail for. Frees. */
mw_status figure_end(figure *f) MW_MUST_USE;

/* The figures there are, from what a run left; each MW_OK without a figure where there is nothing to draw. */
mw_status figure_training(const json_t *history, const char *title, const char *folder,
                          mw_plot_format format) MW_MUST_USE;
mw_status figure_frequencies(const mw_discovery *d, const char *title, const char *folder,
                             mw_plot_format format) MW_MUST_USE;
mw_status figure_activations(const mw_discovery *d, const mw_names *names, int64_t latent, const char *folder,
                             mw_plot_format format) MW_MUST_USE;
mw_status figure_positions(const json_t *evaluation, const char *title, const char *folder,
                           mw_plot_format format) MW_MUST_USE;
mw_status figure_pareto(const json_t *points, const char *title, const char *folder, mw_plot_format format) MW_MUST_USE;
mw_status figure_steering(const json_t *steering, const char *title, const char *folder,
                          mw_plot_format format) MW_MUST_USE;

#endif
