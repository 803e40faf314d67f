/* Loading what belongs to many by hand: the posts of 1,000 authors by one find, and a hash table of the
 * authors that groups them. All documents are kept. */
#include "common.h"

#define AUTHORS 1000
#define PER_AUTHOR 20
#define SLOTS 4096
#define PASSES 5

typedef struct author {
  bson_oid_t id;
  bson_t *posts[PER_AUTHOR];
  int count;
} author;

static author authors[AUTHORS];
static author *slots[SLOTS];

/* bson_oid_hash gives few values to ids that were made one after the other. */
static author **slot_of(const bson_oid_t *id) {
  uint64_t last;
  memcpy(&last, id->bytes + 4, sizeof last);
  last = (last ^ last >> 32) * 0x9E3779B97F4A7C15u;
  for (uint32_t at = (uint32_t)(last >> 32);; at++) {
    author **slot = &slots[at % SLOTS];
    if (!*slot || bson_oid_equal(&(*slot)->id, id)) return slot;
  }
}

static mongoc_cursor_t *find_posts(mongoc_collection_t *collection) {
  bson_t filter = BSON_INITIALIZER, in, ids, *opts = BCON_NEW("batchSize", BCON_INT32(1000000));
  BSON_APPEND_DOCUMENT_BEGIN(&filter, "writer_id", &in);
  BSON_APPEND_ARRAY_BEGIN(&in, "$in", &ids);
  for (uint32_t i = 0; i < AUTHORS; i++) {
    char buffer[16];
    const char *key;
    size_t len = bson_uint32_to_string(i, &key, buffer, sizeof buffer);
    bson_append_oid(&ids, key, (int)len, &authors[i].id);
  }
  bson_append_array_end(&in, &ids);
  bson_append_document_end(&filter, &in);
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &filter, opts, NULL);
  bson_destroy(opts);
  bson_destroy(&filter);
  return cursor;
}

static void finish(mongoc_cursor_t *cursor) {
  bson_error_t error;
  check(!mongoc_cursor_error(cursor, &error), &error);
  mongoc_cursor_destroy(cursor);
}

static void load(mongoc_collection_t *collection) {
  const bson_t *document;
  bson_iter_t it;
  memset(slots, 0, sizeof slots);
  for (int i = 0; i < AUTHORS; i++) *slot_of(&authors[i].id) = &authors[i];
  mongoc_cursor_t *cursor = find_posts(collection);
  while (mongoc_cursor_next(cursor, &document)) {
    if (!bson_iter_init_find(&it, document, "writer_id") || !BSON_ITER_HOLDS_OID(&it)) abort();
    author *owner = *slot_of(bson_iter_oid(&it));
    if (!owner || owner->count == PER_AUTHOR) abort();
    owner->posts[owner->count++] = bson_copy(document);
  }
  finish(cursor);
}

static void unload(void) {
  for (int i = 0; i < AUTHORS; i++) {
    if (authors[i].count != PER_AUTHOR) abort();
    while (authors[i].count > 0) bson_destroy(authors[i].posts[--authors[i].count]);
  }
}

static void load_authors(mongoc_client_t *client) {
  const bson_t *document;
  bson_iter_t it;
  int count = 0;
  bson_t filter = BSON_INITIALIZER;
  mongoc_collection_t *collection = mongoc_client_get_collection(client, DATABASE, "writers");
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &filter, NULL, NULL);
  while (count < AUTHORS && mongoc_cursor_next(cursor, &document))
    if (bson_iter_init_find(&it, document, "_id")) bson_oid_copy(bson_iter_oid(&it), &authors[count++].id);
  finish(cursor);
  if (count < AUTHORS) abort();
  mongoc_collection_destroy(collection);
  bson_destroy(&filter);
}

int main(void) {
  mongoc_client_t *client = connect_client();
  mongoc_collection_t *posts = mongoc_client_get_collection(client, DATABASE, "works");
  double lowest = 0, lowest_cpu = 0;
  load_authors(client);
  for (int pass = 0; pass < PASSES; pass++) {
    double start = wall(), start_cpu = cpu();
    load(posts);
    keep_lowest(&lowest, wall() - start);
    keep_lowest(&lowest_cpu, cpu() - start_cpu);
    unload();
  }
  report("owned", lowest);
  report("owned_cpu", lowest_cpu);
  mongoc_collection_destroy(posts);
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
