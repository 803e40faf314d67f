/* Policies: read preference, read concern and write concern, as libmongoc's values. */
#include <string.h>

#include "../core/mem.h"
#include "private.h"

static bool refuse(lumo_error *error, const char *what) {
  return lumo_error_set(error, "E_ARGUMENT", "%s", what);
}

static bool make_read(lumo_policy *policy, const lumo_policy_options *options, lumo_error *error) {
  static const struct {
    const char *name;
    mongoc_read_mode_t mode;
  } modes[] = {{"primary", MONGOC_READ_PRIMARY},
               {"primaryPreferred", MONGOC_READ_PRIMARY_PREFERRED},
               {"secondary", MONGOC_READ_SECONDARY},
               {"secondaryPreferred", MONGOC_READ_SECONDARY_PREFERRED},
               {"nearest", MONGOC_READ_NEAREST}};
  if (!options->read_mode) return true;
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (strcmp(modes[i].name, options->read_mode) == 0) policy->read = mongoc_read_prefs_new(modes[i].mode);
  if (!policy->read)
    return refuse(error, "a read preference is one of primary primaryPreferred secondary secondaryPreferred "
                         "nearest");
  bson_t tags;
  if (options->tags_len > 5 && bson_init_static(&tags, options->tags, options->tags_len))
    mongoc_read_prefs_set_tags(policy->read, &tags);
  if (options->max_staleness_s > 0)
    mongoc_read_prefs_set_max_staleness_seconds(policy->read, options->max_staleness_s);
  bool fresh = !options->max_staleness_s || options->max_staleness_s >= MONGOC_SMALLEST_MAX_STALENESS_SECONDS;
  return (fresh && mongoc_read_prefs_is_valid(policy->read)) ||
         refuse(error,
                "the read preference \"primary\" takes neither tags nor a staleness, and a staleness is "
                "at least 90 seconds");
}

static bool make_read_concern(lumo_policy *policy, const lumo_policy_options *options, lumo_error *error) {
  static const char *const levels[] = {"local", "available", "majority", "linearizable", "snapshot"};
  if (!options->read_concern) return true;
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
    if (strcmp(levels[i], options->read_concern) != 0) continue;
    policy->read_concern = mongoc_read_concern_new();
    return mongoc_read_concern_set_level(policy->read_concern, levels[i]);
  }
  return refuse(error, "a read concern is one of local available majority linearizable snapshot");
}

static bool make_write_concern(lumo_policy *policy, const lumo_policy_options *options, lumo_error *error) {
  if (!options->w_tag && !options->w && !options->journal && !options->wtimeout_ms) return true;
  policy->write_concern = mongoc_write_concern_new();
  if (options->w_tag && strcmp(options->w_tag, "majority") == 0)
    mongoc_write_concern_set_w(policy->write_concern, MONGOC_WRITE_CONCERN_W_MAJORITY);
  else if (options->w_tag)
    mongoc_write_concern_set_wtag(policy->write_concern, options->w_tag);
  else if (options->w)
    mongoc_write_concern_set_w(policy->write_concern, options->w);
  if (options->journal) mongoc_write_concern_set_journal(policy->write_concern, options->journal > 0);
  if (options->wtimeout_ms)
    mongoc_write_concern_set_wtimeout_int64(policy->write_concern, options->wtimeout_ms);
  return mongoc_write_concern_is_valid(policy->write_concern) ||
         refuse(error, "the write concern is not valid");
}

/* libmongoc encodes a concern when it is first used, and several threads may use it at once: that is done
 * now.
 */
static void encode(const lumo_policy *policy) {
  bson_t scratch = BSON_INITIALIZER;
  if (policy->read_concern) mongoc_read_concern_append(policy->read_concern, &scratch);
  if (policy->write_concern) mongoc_write_concern_append(policy->write_concern, &scratch);
  bson_destroy(&scratch);
}

lumo_policy *lumo_policy_new(const lumo_policy_options *options, lumo_error *error) {
  lumo_policy *policy = lumo_calloc(1, sizeof *policy);
  if (!policy) {
    lumo_error_memory(error);
    return NULL;
  }
  atomic_init(&policy->references, 1);
  policy->max_commit_ms = options->max_commit_ms;
  if (make_read(policy, options, error) && make_read_concern(policy, options, error) &&
      make_write_concern(policy, options, error)) {
    encode(policy);
    return policy;
  }
  lumo_policy_unref(policy);
  return NULL;
}

lumo_policy *lumo_policy_ref(lumo_policy *policy) {
  atomic_fetch_add_explicit(&policy->references, 1, memory_order_relaxed);
  return policy;
}

void lumo_policy_unref(lumo_policy *policy) {
  if (!policy || atomic_fetch_sub_explicit(&policy->references, 1, memory_order_acq_rel) != 1) return;
  if (policy->read) mongoc_read_prefs_destroy(policy->read);
  if (policy->read_concern) mongoc_read_concern_destroy(policy->read_concern);
  if (policy->write_concern) mongoc_write_concern_destroy(policy->write_concern);
  lumo_free(policy);
}

static void release(void *policy) {
  lumo_policy_unref(policy);
}

void lumo_policy_give(lumo_policy *policy, lumo_plan *plan) {
  if (plan->policy) plan->release_policy(plan->policy);
  plan->policy = lumo_policy_ref(policy);
  plan->release_policy = release;
}

void lumo_policy_apply(const lumo_policy *policy, mongoc_uri_t *uri) {
  if (policy->read) mongoc_uri_set_read_prefs_t(uri, policy->read);
  if (policy->read_concern) mongoc_uri_set_read_concern(uri, policy->read_concern);
  if (policy->write_concern) mongoc_uri_set_write_concern(uri, policy->write_concern);
}

bool lumo_policy_append_read(const lumo_policy *policy, bson_t *opts) {
  return !policy || !policy->read_concern || mongoc_read_concern_append(policy->read_concern, opts);
}

bool lumo_policy_append_write(const lumo_policy *policy, bson_t *opts) {
  return !policy || !policy->write_concern || mongoc_write_concern_append(policy->write_concern, opts);
}
