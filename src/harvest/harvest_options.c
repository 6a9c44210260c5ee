/* The options of a harvest: their keys and defaults. */
#include "harvest/harvest_options.h"
#include "microw/harvest.h"

static const mw_choice dtypes[] = {{"f32", MW_F32}, {"bf16", MW_BF16}, {"f16", MW_F16}, {0}};
static const mw_choice skips[] = {{"special", MW_SKIP_SPECIAL}, {"bos", MW_SKIP_BOS}, {"none", MW_SKIP_NONE}, {0}};
static const mw_choice nan_words[] = {{"stop", false}, {"keep", true}, {0}}; /* of keep_nan */

#define AT(member) offsetof(mw_harvest_options, member)
#define ENUM(member) MW_ENUM_AT(mw_harvest_options, member)

const mw_field harvest_option_fields[] = {
    {"dtype", MW_FIELD_CHOICE, ENUM(dtype), "bf16", .choices = dtypes, .doc = "type of the stored numbers"},
    {"skip", MW_FIELD_CHOICE, ENUM(skip), "special", .choices = skips, .doc = "tokens whose rows are not stored"},
    {"skip_positions", MW_FIELD_INT, AT(skip_positions), "0", .min = 0, .max = 1 << 24,
     .doc = "number of first positions of a sequence whose rows are not stored"},
    {"nan", MW_FIELD_BOOL, AT(keep_nan), "stop", .choices = nan_words,
     .doc = "stop: a value that is not finite in the stored type ends the run, which names it; keep: it is "
            "stored, and left out of the means"},
    {0}};
