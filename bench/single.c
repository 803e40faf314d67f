/* One document at a time: found by its _id, and one field of it changed. */
#include "common.h"

#define BATCHES 20
#define BATCH 500

static bson_oid_t ids[BATCH];

static void load_ids(mongoc_collection_t *posts) {
  bson_error_t error;
  bson_iter_t it;
  const bson_t *document;
  int count = 0;
  bson_t filter = BSON_INITIALIZER, *opts = BCON_NEW("projection", "{", "_id", BCON_BOOL(true), "}");
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(posts, &filter, opts, NULL);
  while (count < BATCH && mongoc_cursor_next(cursor, &document))
    if (bson_iter_init_find(&it, document, "_id")) bson_oid_copy(bson_iter_oid(&it), &ids[count++]);
  check(!mongoc_cursor_error(cursor, &error), &error);
  if (count < BATCH) abort();
  mongoc_cursor_destroy(cursor);
  bson_destroy(opts);
  bson_destroy(&filter);
}

static void find(mongoc_collection_t *posts, const bson_oid_t *id) {
  bson_error_t error;
  bson_iter_t it;
  const bson_t *document;
  bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
  BSON_APPEND_OID(&filter, "_id", id);
  BSON_APPEND_INT64(&opts, "limit", 1);
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(posts, &filter, &opts, NULL);
  bool found = mongoc_cursor_next(cursor, &document) && bson_iter_init_find(&it, document, "title") &&
               bson_iter_utf8(&it, NULL) != NULL;
  check(!mongoc_cursor_error(cursor, &error), &error);
  if (!found) abort();
  mongoc_cursor_destroy(cursor);
  bson_destroy(&opts);
  bson_destroy(&filter);
}

static void save(mongoc_collection_t *posts, const bson_oid_t *id, int views) {
  bson_error_t error;
  bson_iter_t it;
  bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER, set, reply;
  BSON_APPEND_OID(&filter, "_id", id);
  BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
  BSON_APPEND_INT32(&set, "views", views);
  bson_append_document_end(&update, &set);
  check(mongoc_collection_update_one(posts, &filter, &update, NULL, &reply, &error), &error);
  if (!bson_iter_init_find(&it, &reply, "matchedCount") || bson_iter_as_int64(&it) != 1) abort();
  bson_destroy(&reply);
  bson_destroy(&update);
  bson_destroy(&filter);
}

int main(void) {
  mongoc_client_t *client = connect_client();
  mongoc_collection_t *posts = mongoc_client_get_collection(client, DATABASE, "posts");
  double found = 0, saved = 0;
  load_ids(posts);
  for (int batch = 0; batch < BATCHES; batch++) {
    double start = cpu();
    for (int i = 0; i < BATCH; i++) find(posts, &ids[i]);
    keep_lowest(&found, (cpu() - start) / BATCH);
    int views = rand();
    start = cpu();
    for (int i = 0; i < BATCH; i++) save(posts, &ids[i], views + i);
    keep_lowest(&saved, (cpu() - start) / BATCH);
  }
  report("find", found);
  report("save", saved);
  mongoc_collection_destroy(posts);
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
