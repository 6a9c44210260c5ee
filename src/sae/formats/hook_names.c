/* Names of sites in TransformerLens, which SAELens uses. */
#include "sae/formats/foreign.h"

#include <stdio.h>
#include <string.h>

/* %d is the layer. */
static const struct {
    mw_site_kind kind;
    const char *hook;
} hook_names[] = {{MW_EMBED, "hook_embed"},
                  {MW_RESID_PRE, "blocks.%d.hook_resid_pre"},
                  {MW_ATTN_Q, "blocks.%d.attn.hook_q"},
                  {MW_ATTN_K, "blocks.%d.attn.hook_k"},
                  {MW_ATTN_V, "blocks.%d.attn.hook_v"},
                  {MW_ATTN_Z, "blocks.%d.attn.hook_z"},
                  {MW_ATTN_OUT, "blocks.%d.hook_attn_out"},
                  {MW_RESID_MID, "blocks.%d.hook_resid_mid"},
                  {MW_MLP_ACT, "blocks.%d.mlp.hook_post"},
                  {MW_MLP_OUT, "blocks.%d.hook_mlp_out"},
                  {MW_RESID_POST, "blocks.%d.hook_resid_post"}};
enum { HOOKS = sizeof hook_names / sizeof *hook_names };

void hook_of_site(const char *site, char out[HOOK_TEXT]) {
    mw_site parsed;
    snprintf(out, HOOK_TEXT, "%s", site);
    mw_log_quiet(true);
    mw_status status = mw_site_parse(site, &parsed);
    mw_log_quiet(false);
    for (int i = 0; status == MW_OK && i < HOOKS; i++) {
        if (hook_names[i].kind != parsed.kind) continue;
        const char *layer = strstr(hook_names[i].hook, "%d");
        if (layer)
            snprintf(out, HOOK_TEXT, "%.*s%d%s", (int)(layer - hook_names[i].hook), hook_names[i].hook, parsed.layer,
                     layer + 2);
        else
            snprintf(out, HOOK_TEXT, "%s", hook_names[i].hook);
    }
}

void site_of_hook(const char *hook, char out[HOOK_TEXT]) {
    snprintf(out, HOOK_TEXT, "%s", hook);
    for (int layer = 0; layer < 1024; layer++)
        for (int i = 0; i < HOOKS; i++) {
            char site[MW_SITE_TEXT], name[HOOK_TEXT];
            mw_site_format((mw_site){layer, hook_names[i].kind}, site);
            hook_of_site(site, name);
            if (strcmp(name, hook) != 0) continue;
            snprintf(out, HOOK_TEXT, "%s", site);
            return;
        }
}
