/* microw plot: the figures of a run. */
#include "experiment/figures/figure.h"
#include "experiment/run/results.h"

#include <string.h>

/* Draws histograms of the requested latents. */
static mw_status plot_latents(const results *m, const mw_plot_options *o, const char *folder) {
    for (int64_t i = 0; i < o->n_latents; i++) {
        if (!m->discovered) return mw_error(MW_ERR_STATE, "--latents: run `microw discover` first");
        if (o->latents[i] < 0 || o->latents[i] >= m->discovery.n)
            return mw_error(MW_ERR_CONFIG, "latent %lld: the SAE has %lld latents", (long long)o->latents[i],
                            (long long)m->discovery.n);
        if (m->discovery.count[o->latents[i]] == 0)
            return mw_error(MW_ERR_STATE, "latent %lld is never active", (long long)o->latents[i]);
        MW_TRY(figure_activations(&m->discovery, &m->names, o->latents[i], folder, o->format));
    }
    return MW_OK;
}

static mw_status plot_all(experiment_run *r, const mw_plot_options *o) {
    results m = {0};
    const char *title = r->e->top.name, *folder = o->folder ? o->folder : r->folder;
    mw_plot_format format = o->format;
    mw_status status = results_collect(r, &m);
    if (status == MW_OK) status = figure_training(m.history, title, folder, format);
    if (status == MW_OK && m.discovered) status = figure_frequencies(&m.discovery, title, folder, format);
    if (status == MW_OK) status = figure_positions(m.evaluation, title, folder, format);
    if (status == MW_OK) status = figure_steering(m.steering, title, folder, format);
    if (status == MW_OK) status = figure_pareto(m.sweep, title, folder, format);
    if (status == MW_OK) status = plot_latents(&m, o, folder);
    bool nothing = results_is_empty(&m);
    results_release(&m);
    if (status == MW_OK && nothing) return mw_error(MW_ERR_STATE, "%s: nothing to draw yet", folder);
    return status;
}

mw_status mw_experiment_plot(const mw_experiment *experiment, const mw_comm *comm, const mw_plot_options *options) {
    experiment_run r;
    MW_TRY(run_open(experiment, comm, NULL, &r));
    mw_status status = mw_comm_agree(comm, run_is_root(&r) ? plot_all(&r, options) : MW_OK);
    run_close(&r);
    return status;
}
