/* Figures drawn by gnuplot. Each script contains its data and is kept, so that a figure can be drawn again in
 * another size. */
#ifndef MICROW_EXPERIMENT_FIGURES_FIGURE_H
#define MICROW_EXPERIMENT_FIGURES_FIGURE_H

#include "experiment/run/run.h"

typedef struct figure {
    const char *folder, *name; /* FOLDER/NAME.gp and .svg, .png or .pdf */
    mw_plot_format format;
    mw_text script;
} figure;

void figure_begin(figure *f, const char *folder, const char *name, mw_plot_format format, int width, int height);
/* Appends a quoted text, without characters that would end the quotes. */
void figure_quote(figure *f, const char *text);
/* Writes the script, runs gnuplot, prints the path, and frees. A failure of gnuplot is no error: it must not end a
 * run. */
mw_status figure_end(figure *f) MW_MUST_USE;

/* The figures of a run's results. Each returns MW_OK without a figure if there is nothing to draw. */
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
