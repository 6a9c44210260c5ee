/* The options of generation: their keys and defaults. */
#include "model/sampling_options.h"
#include "microw/model.h"

#define AT(member) offsetof(mw_sampling, member)

const mw_field sampling_option_fields[] = {
    {"max_new_tokens", MW_FIELD_INT, AT(max_new_tokens), "40", .min = 1, .max = 1 << 20, .doc = "tokens to generate"},
    {"temperature", MW_FIELD_REAL, AT(temperature), "0", .min = 0, .max = 100, .doc = "0: greedy"},
    {"top_k", MW_FIELD_INT, AT(top_k), "0", .min = 0, .max = 1 << 20,
     .doc = "sample from this many most likely tokens; 0: all"},
    {"top_p", MW_FIELD_REAL, AT(top_p), "1", .min = 0.000001, .max = 1,
     .doc = "nucleus sampling: sample from the most likely tokens that have this probability together"},
    {"seed", MW_FIELD_INT, AT(seed), "0", .min = 0, .max = 1e15, .doc = "of sampling"},
    {0}};
