/* Figures as scripts of gnuplot. */
#include "experiment/figures/figure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const endings[] = {"svg", "png", "pdf"};

void figure_begin(figure *f, const char *folder, const char *name, mw_plot_format format, int width, int height) {
    *f = (figure){.folder = folder, .name = name, .format = format};
    mw_text_addf(&f->script, "# gnuplot %s.gp\n", name);
    if (format == MW_PLOT_SVG)
        mw_text_addf(&f->script, "set terminal svg noenhanced size %d,%d font \"sans,12\" background rgb \"white\"\n",
                     width, height);
    else if (format == MW_PLOT_PNG)
        mw_text_addf(&f->script, "set terminal pngcairo noenhanced size %d,%d font \"sans,10\"\n", 2 * width,
                     2 * height);
    else
        mw_text_addf(&f->script, "set terminal pdfcairo noenhanced size %.2f,%.2f font \"sans,12\"\n", width / 96.0,
                     height / 96.0);
    mw_text_addf(&f->script, "set output \"%s.%s\"\nset grid\nset key off\n", name, endings[format]);
}

void figure_quote(figure *f, const char *text) {
    mw_text_add(&f->script, "\"", 1);
    for (const char *p = text; *p; p++) {
        bool plain = *p != '"' && *p != '\\' && *p != '`' && (unsigned char)*p >= 0x20 && *p != 0x7f;
        mw_text_add(&f->script, plain ? p : "'", 1);
    }
    mw_text_add(&f->script, "\"", 1);
}

/* Runs gnuplot in the folder, whose name is quoted: it may contain any character. */
static bool draw(const figure *f) {
    mw_text said = {0}, command = {0};
    mw_text_addf(&command, "cd '");
    for (const char *p = f->folder; *p; p++) mw_text_addf(&command, *p == '\'' ? "'\\''" : "%c", *p);
    mw_text_addf(&command, "' && command -v gnuplot >/dev/null && exec gnuplot %s.gp 2>/dev/null", f->name);
    mw_log_quiet(true);
    bool drawn = !command.failed && mw_command_run(command.data, "", 0, 60, 1 << 20, &said) == MW_OK;
    mw_log_quiet(false);
    mw_text_free(&said);
    mw_text_free(&command);
    return drawn;
}

mw_status figure_end(figure *f) {
    char *path = mw_format("%s/%s.gp", f->folder, f->name);
    bool good = path && !f->script.failed;
    mw_status status = good ? mw_make_directories(f->folder) : MW_ERR_MEMORY;
    if (status == MW_OK) status = mw_file_write_atomic(path, f->script.data, f->script.length);
    if (status == MW_OK && draw(f))
        printf("figure: %s/%s.%s\n", f->folder, f->name, endings[f->format]);
    else if (status == MW_OK)
        printf("gnuplot not found: the figure's script is %s\n", path);
    fflush(stdout);
    mw_text_free(&f->script);
    mw_free(path);
    return status;
}

/* ---- figures ----------------------------------------------------------------------------------------------------- */

static void add_title(figure *f, const char *command, const char *title) {
    mw_text_addf(&f->script, "%s ", command);
    figure_quote(f, title);
    mw_text_addf(&f->script, "\n");
}

static bool has_curve(const json_t *history, const char *key) {
    return json_array_size(json_object_get(history, key)) > 1;
}

/* Whether an axis can show a value: it is defined, and above zero on a logarithmic axis. */
static bool can_be_shown(double value, bool log) {
    return isfinite(value) && (!log || value > 0);
}

static double number_at(const json_t *list, size_t i) {
    const json_t *value = json_array_get(list, i);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* Appends the data of a curve; false: there are none, and gnuplot would fail. */
static bool add_curve(figure *f, const json_t *history, const char *key, bool log) {
    const json_t *x = json_object_get(history, "tokens"), *y = json_object_get(history, key);
    bool any = false;
    mw_text_addf(&f->script, "$%s << END\n", key);
    for (size_t i = 0; i < json_array_size(y) && i < json_array_size(x); i++) {
        if (!can_be_shown(number_at(y, i), log)) continue;
        mw_text_addf(&f->script, "%.9g %.9g\n", number_at(x, i), number_at(y, i));
        any = true;
    }
    mw_text_addf(&f->script, "END\n");
    return any;
}

mw_status figure_training(const json_t *history, const char *title, const char *folder, mw_plot_format format) {
    static const struct {
        const char *key, *label;
        bool log;
    } curves[] = {{"loss", "loss", true}, {"fvu", "FVU", true}, {"l0", "L0", false}, {"dead", "dead latents", false}};
    figure f;
    if (!has_curve(history, "fvu") || !has_curve(history, "tokens")) return MW_OK;
    figure_begin(&f, folder, "training", format, 960, 640);
    add_title(&f, "set multiplot layout 2,2 title", title);
    mw_text_addf(&f.script, "set xlabel \"tokens\"\nset format x \"%%.1s%%c\"\n");
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        if (add_curve(&f, history, curves[i].key, curves[i].log))
            mw_text_addf(&f.script, "set ylabel \"%s\"\n%s logscale y\nplot $%s with lines lw 2\n", curves[i].label,
                         curves[i].log ? "set" : "unset", curves[i].key);
    mw_text_addf(&f.script, "unset multiplot\n");
    return figure_end(&f);
}

mw_status figure_frequencies(const mw_discovery *d, const char *title, const char *folder, mw_plot_format format) {
    enum { PER_DECADE = 5, BINS = 10 * PER_DECADE };
    int64_t bin[BINS] = {0}, dead = 0;
    figure f;
    for (int64_t i = 0; i < d->n; i++) {
        if (d->count[i] == 0) {
            dead++;
            continue;
        }
        int at = (int)floor(-log10((double)d->count[i] / (double)d->rows) * PER_DECADE);
        bin[at < BINS ? at : BINS - 1]++;
    }
    figure_begin(&f, folder, "frequencies", format, 640, 420);
    add_title(&f, "set title", title);
    mw_text_addf(&f.script,
                 "set xlabel \"log10 of the share of tokens on which a latent is active; %lld of %lld are never\"\n"
                 "set ylabel \"latents\"\nset style fill solid 0.7\nset boxwidth %.4f\n$latents << END\n",
                 (long long)dead, (long long)d->n, 1.0 / PER_DECADE);
    for (int b = 0; b < BINS; b++)
        if (bin[b]) mw_text_addf(&f.script, "%.4f %lld\n", -(b + 0.5) / PER_DECADE, (long long)bin[b]);
    mw_text_addf(&f.script, "END\nplot $latents with boxes\n");
    return figure_end(&f);
}

mw_status figure_activations(const mw_discovery *d, const mw_names *names, int64_t latent, const char *folder,
                             mw_plot_format format) {
    figure f;
    char name[48];
    if (d->count[latent] == 0) return MW_OK;
    snprintf(name, sizeof name, "latent-%lld", (long long)latent);
    char *title = mw_format("latent %lld %s", (long long)latent, names->of[latent].name ? names->of[latent].name : "");
    double width = ldexp(1, d->bin_exponent[latent]);
    if (!title) return MW_ERR_MEMORY;
    figure_begin(&f, folder, name, format, 640, 420);
    add_title(&f, "set title", title);
    mw_free(title);
    mw_text_addf(
        &f.script,
        "set xlabel \"activation\"\nset ylabel \"tokens\"\nset logscale y\nset yrange [0.5:*]\nset style fill solid "
        "0.7\nset boxwidth %.9g\n$tokens << END\n",
        width);
    for (int b = 0; b < MW_BINS; b++)
        if (d->bin[latent * MW_BINS + b])
            mw_text_addf(&f.script, "%.9g %lld\n", (b + 0.5) * width, (long long)d->bin[latent * MW_BINS + b]);
    mw_text_addf(&f.script, "END\nplot $tokens with boxes\n");
    return figure_end(&f);
}

mw_status figure_positions(const json_t *evaluation, const char *title, const char *folder, mw_plot_format format) {
    const json_t *list = json_object_get(evaluation, "by_position");
    size_t shown = 0;
    figure f;
    for (size_t i = 0; i < json_array_size(list); i++)
        shown += isfinite(mw_json_number(json_array_get(list, i), "fvu", NAN));
    if (shown < 2) return MW_OK;
    figure_begin(&f, folder, "positions", format, 640, 420);
    add_title(&f, "set title", title);
    mw_text_addf(&f.script,
                 "set xlabel \"position in the sequence\"\nset ylabel \"FVU\"\nset logscale x 2\n$fvu << END\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        double fvu = mw_json_number(json_array_get(list, i), "fvu", NAN);
        if (isfinite(fvu))
            mw_text_addf(&f.script, "%.9g %.9g\n", mw_json_number(json_array_get(list, i), "first", NAN) + 1, fvu);
    }
    mw_text_addf(&f.script, "END\nplot $fvu with linespoints pt 7 lw 2\n");
    return figure_end(&f);
}

/* Points of a sweep have {"point", "l0", "fvu", "ce_recovered_zero", "best_fvu", "best_ce"}. L0 and FVU have
 * logarithmic axes. */
static bool can_show_point(const json_t *point, const char *key) {
    return can_be_shown(mw_json_number(point, "l0", NAN), true) &&
           can_be_shown(mw_json_number(point, key, NAN), strcmp(key, "fvu") == 0);
}

static void add_points(figure *f, const char *name, const json_t *points, const char *key, const char *best) {
    mw_text_addf(&f->script, "$%s << END\n", name);
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *p = json_array_get(points, i);
        if (!can_show_point(p, key) || (best && !mw_json_flag(p, best, false))) continue;
        const char *point = mw_json_text(p, "point");
        mw_text_addf(&f->script, "%.9g %.9g ", mw_json_number(p, "l0", NAN), mw_json_number(p, key, NAN));
        figure_quote(f, point ? point : "");
        mw_text_addf(&f->script, "\n");
    }
    mw_text_addf(&f->script, "END\n");
}

static bool any_point(const json_t *points, const char *key) {
    for (size_t i = 0; i < json_array_size(points); i++)
        if (can_show_point(json_array_get(points, i), key)) return true;
    return false;
}

mw_status figure_pareto(const json_t *points, const char *title, const char *folder, mw_plot_format format) {
    static const char plot[] = "plot $%s using 1:2 with linespoints pt 7, $%s using 1:2 with points pt 6, "
                               "'' using 1:2:3 with labels font \",8\" offset 0,0.8\n";
    figure f;
    bool fvu = any_point(points, "fvu"), ce = any_point(points, "ce_recovered_zero");
    if (!fvu && !ce) return MW_OK;
    figure_begin(&f, folder, "pareto", format, fvu && ce ? 1200 : 640, 480);
    mw_text_addf(&f.script, "set logscale x 2\nset xlabel \"L0\"\n");
    if (fvu) add_points(&f, "all", points, "fvu", NULL);
    if (fvu) add_points(&f, "best", points, "fvu", "best_fvu");
    if (ce) add_points(&f, "all_ce", points, "ce_recovered_zero", NULL);
    if (ce) add_points(&f, "best_ce", points, "ce_recovered_zero", "best_ce");
    mw_text_addf(&f.script, "set multiplot layout 1,%d title ", fvu && ce ? 2 : 1);
    figure_quote(&f, title);
    mw_text_addf(&f.script, "\n");
    if (fvu) mw_text_addf(&f.script, "set logscale y\nset ylabel \"FVU\"\n");
    if (fvu) mw_text_addf(&f.script, plot, "best", "all");
    if (ce) mw_text_addf(&f.script, "unset logscale y\nset ylabel \"cross-entropy recovered\"\n");
    if (ce) mw_text_addf(&f.script, plot, "best_ce", "all_ce");
    mw_text_addf(&f.script, "unset multiplot\n");
    return figure_end(&f);
}

/* Returns the share of words of the category, or the KL divergence. */
static double measure_of(const json_t *variant, bool words) {
    return mw_json_number(json_object_get(variant, words ? "category" : "predictions"), words ? "percent" : "kl", NAN);
}

static bool any_variant(const json_t *variants, bool words) {
    for (size_t i = 0; i < json_array_size(variants); i++)
        if (isfinite(measure_of(json_array_get(variants, i), words))) return true;
    return false;
}

/* Appends a line for each variant that has the measure, with its number; without an interval the limits are the
 * value. */
static void add_variants(figure *f, const json_t *variants, bool words) {
    mw_text_addf(&f->script, "$%s << END\n", words ? "words" : "kl");
    for (size_t i = 0; i < json_array_size(variants); i++) {
        const json_t *v = json_array_get(variants, i), *category = json_object_get(v, "category");
        double value = measure_of(v, words);
        const char *name = mw_json_text(v, "name");
        if (!isfinite(value)) continue;
        mw_text_addf(&f->script, "%zu %.9g %.9g %.9g ", i, value,
                     words ? mw_json_number(category, "low", value) : value,
                     words ? mw_json_number(category, "high", value) : value);
        figure_quote(f, name ? name : "");
        mw_text_addf(&f->script, "\n");
    }
    mw_text_addf(&f->script, "END\n");
}

mw_status figure_steering(const json_t *steering, const char *title, const char *folder, mw_plot_format format) {
    const json_t *variants = json_object_get(steering, "variants");
    bool words = any_variant(variants, true), kl = any_variant(variants, false);
    figure f;
    if (!words && !kl) return MW_OK;
    figure_begin(&f, folder, "steering", format, words && kl ? 1100 : 640, 480);
    mw_text_addf(&f.script, "set xtics rotate by -30\nset style fill solid 0.7\nset boxwidth 0.6\n");
    if (words) add_variants(&f, variants, true);
    if (kl) add_variants(&f, variants, false);
    mw_text_addf(&f.script, "set multiplot layout 1,%d title ", words && kl ? 2 : 1);
    figure_quote(&f, title);
    if (words)
        mw_text_addf(&f.script,
                     "\nset ylabel \"%% of the words are of the category (95 %% interval)\"\nplot $words using "
                     "1:2:3:4:(0.6):xtic(5) with boxerrorbars\n");
    if (kl)
        mw_text_addf(&f.script,
                     "\nset ylabel \"KL from the unchanged model\"\nplot $kl using 1:2:xtic(5) with boxes\n");
    mw_text_addf(&f.script, "unset multiplot\n");
    return figure_end(&f);
}
