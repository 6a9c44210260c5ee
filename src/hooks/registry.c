/* Registry of hooks: attaching, enabling and firing. */
#include "microw/hooks.h"

typedef struct entry {
    mw_hook hook;
    mw_hook_id id;
    bool enabled;
} entry;

struct mw_hooks {
    mw_site_width width;
    const void *model;
    entry *entries; /* in order of attachment, which is the firing order */
    int64_t count, capacity;
    mw_hook_id next;
    bool controllers, stopped;
    mw_hook stopper; /* copy of the hook that ended a pass last */
};

mw_status mw_hooks_new(mw_site_width width, const void *model, mw_hooks **out) {
    mw_hooks *hooks = mw_calloc(1, sizeof *hooks);
    if (!hooks) return MW_ERR_MEMORY;
    *hooks = (mw_hooks){.width = width, .model = model, .next = 1, .controllers = true};
    *out = hooks;
    return MW_OK;
}

static void release(entry *e) {
    if (e->hook.release) e->hook.release(e->hook.self);
}

void mw_hooks_free(mw_hooks **hooks) {
    if (!*hooks) return;
    for (int64_t i = 0; i < (*hooks)->count; i++) release(&(*hooks)->entries[i]);
    mw_free((*hooks)->entries);
    mw_free(*hooks);
    *hooks = NULL;
}

mw_status mw_hooks_attach(mw_hooks *hooks, const mw_hook *hook, mw_hook_id *out) {
    char name[MW_SITE_TEXT];
    mw_site_format(hook->site, name);
    if (!hook->call) return mw_error(MW_ERR_ARG, "a hook on %s has no function to call", name);
    if (hooks->width(hooks->model, hook->site) == 0)
        return mw_error(MW_ERR_CONFIG, "site %s is not in this model; `microw layers` lists its sites", name);
    if (!MW_GROW(hooks->entries, hooks->count, hooks->capacity)) return MW_ERR_MEMORY;
    hooks->entries[hooks->count++] = (entry){.hook = *hook, .id = hooks->next, .enabled = true};
    *out = hooks->next++;
    return MW_OK;
}

static entry *find(mw_hooks *hooks, mw_hook_id id) {
    for (int64_t i = 0; i < hooks->count; i++)
        if (hooks->entries[i].id == id) return &hooks->entries[i];
    return NULL;
}

bool mw_hooks_detach(mw_hooks *hooks, mw_hook_id id) {
    entry *e = find(hooks, id);
    if (!e) return false;
    release(e);
    for (entry *last = hooks->entries + --hooks->count; e < last; e++) *e = e[1];
    return true;
}

bool mw_hooks_enable(mw_hooks *hooks, mw_hook_id id, bool enabled) {
    entry *e = find(hooks, id);
    if (e) e->enabled = enabled;
    return e != NULL;
}

void mw_hooks_use_controllers(mw_hooks *hooks, bool use) {
    hooks->controllers = use;
}

static bool will_fire(const mw_hooks *hooks, const entry *e) {
    return e->enabled && (hooks->controllers || e->hook.kind != MW_CONTROLLER);
}

static bool same_site(mw_site a, mw_site b) {
    return a.layer == b.layer && a.kind == b.kind;
}

int64_t mw_hooks_count(const mw_hooks *hooks, mw_site site, mw_hook_kind kind) {
    int64_t count = 0;
    for (int64_t i = 0; i < hooks->count; i++)
        count += same_site(hooks->entries[i].hook.site, site) && hooks->entries[i].hook.kind == kind;
    return count;
}

bool mw_hooks_wanted(const mw_hooks *hooks, mw_site site) {
    for (int64_t i = 0; i < hooks->count; i++)
        if (same_site(hooks->entries[i].hook.site, site) && will_fire(hooks, &hooks->entries[i])) return true;
    return false;
}

int64_t mw_hooks_last(const mw_hooks *hooks) {
    int64_t last = -1;
    for (int64_t i = 0; i < hooks->count; i++) {
        int64_t order = mw_site_order(hooks->entries[i].hook.site);
        if (will_fire(hooks, &hooks->entries[i]) && order > last) last = order;
    }
    return last;
}

static const char *name_of(const mw_hook *hook) {
    return hook->name ? hook->name : "unnamed";
}

mw_status mw_hooks_fire(mw_hooks *hooks, const mw_hook_event *event) {
    for (int64_t i = 0; i < hooks->count; i++) {
        const entry *e = &hooks->entries[i];
        if (!same_site(e->hook.site, event->site) || !will_fire(hooks, e)) continue;
        mw_status status = e->hook.call(e->hook.self, event);
        if (status == MW_OK) continue;
        if (status == MW_STOP) {
            hooks->stopped = true;
            hooks->stopper = e->hook;
            return status;
        }
        char name[MW_SITE_TEXT];
        mw_site_format(event->site, name);
        return mw_error(status, "hook '%s' on %s failed: %s", name_of(&e->hook), name, mw_status_text(status));
    }
    return MW_OK;
}

bool mw_hooks_stopped(const mw_hooks *hooks, mw_site *site, const char **name) {
    if (!hooks->stopped) return false;
    *site = hooks->stopper.site;
    *name = name_of(&hooks->stopper);
    return true;
}
