/* The options of discovery: their keys and defaults. */
#include "concepts/discover_options.h"
#include "microw/concepts.h"

#define AT(member) offsetof(mw_discover_options, member)

const mw_field discover_option_fields[] = {
    {"top_texts", MW_FIELD_INT, AT(top_texts), "10", .min = 1, .max = 10000,
     .doc = "texts kept for each latent, at most one per document in a sequence"},
    {"samples", MW_FIELD_INT, AT(samples), "15", .min = 0, .max = 10000,
     .doc = "texts of each latent drawn at random from all rows on which it is active: they show it away from "
            "its maximum"},
    {"context_tokens", MW_FIELD_INT, AT(around), "12", .min = 0, .max = 10000, .doc = "tokens shown on each side"},
    {"neighbours", MW_FIELD_INT, AT(neighbours), "8", .min = 0, .max = 1000,
     .doc = "similar latents that are listed, by decoder cosine and by coactivation; 0: neither"},
    {"together_rows", MW_FIELD_INT, AT(coactive_rows), "200_000", .min = 1, .max = 1e8,
     .doc = "rows, drawn at random, on which coactivation is counted"},
    {"baseline_rows", MW_FIELD_INT, AT(baseline_rows), "200_000", .min = 0, .max = 1e12,
     .doc = "first rows, of whole documents, on which the SAE and its baselines are scored by the categories; 0: not "
            "scored"},
    {"seed", MW_FIELD_INT, AT(seed), "0", .min = 0, .max = 1e15, .doc = "of random draws"},
    {0}};
