/* Eager loading by hand: the pivot rows of the parents by one find, their labels by another, and a hash join.
 * All documents are kept: a label once, a row each. */
#include <malloc.h>

#include "common.h"

#define PARENTS 5000
#define PER_PARENT 20
#define LABELS 1000
#define PASSES 5

/* ObjectIds and what stands under them. */
typedef struct entry {
  bson_oid_t id;
  bool used;
  int number;
  bson_t *document;
} entry;

typedef struct table {
  entry *entries;
  uint32_t mask;
} table;

typedef struct related {
  bson_t *row;
  const bson_t *label;
} related;

typedef struct group {
  related *items;
  int count, capacity;
} group;

static bson_oid_t parents[PARENTS];

static void *must(void *pointer) {
  if (!pointer) abort();
  return pointer;
}

static table new_table(uint32_t least) {
  uint32_t size = 16;
  while (size < least * 2) size *= 2;
  return (table){must(calloc(size, sizeof(entry))), size - 1};
}

/* bson_oid_hash gives few values to ids that were made one after the other. */
static uint32_t hash(const bson_oid_t *id) {
  uint64_t last;
  memcpy(&last, id->bytes + 4, sizeof last);
  last = (last ^ last >> 32) * 0x9E3779B97F4A7C15u;
  return (uint32_t)(last >> 32);
}

static entry *find_entry(const table *t, const bson_oid_t *id) {
  for (uint32_t at = hash(id);; at++) {
    entry *e = &t->entries[at & t->mask];
    if (!e->used || bson_oid_equal(&e->id, id)) return e;
  }
}

static entry *add_entry(const table *t, const bson_oid_t *id) {
  entry *e = find_entry(t, id);
  if (e->used) return NULL;
  e->used = true;
  bson_oid_copy(id, &e->id);
  return e;
}

/* A cursor over the documents whose field is in the list of ids. */
static mongoc_cursor_t *find_in(mongoc_collection_t *collection, const char *field, const bson_t *ids) {
  bson_t filter = BSON_INITIALIZER, in, *opts = BCON_NEW("batchSize", BCON_INT32(1000000));
  BSON_APPEND_DOCUMENT_BEGIN(&filter, field, &in);
  BSON_APPEND_ARRAY(&in, "$in", ids);
  bson_append_document_end(&filter, &in);
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &filter, opts, NULL);
  bson_destroy(opts);
  bson_destroy(&filter);
  return cursor;
}

static void append_id(bson_t *ids, uint32_t index, const bson_oid_t *id) {
  char buffer[16];
  const char *key;
  size_t len = bson_uint32_to_string(index, &key, buffer, sizeof buffer);
  bson_append_oid(ids, key, (int)len, id);
}

static const bson_oid_t *oid_of(const bson_t *document, const char *field) {
  bson_iter_t it;
  if (!bson_iter_init_find(&it, document, field) || !BSON_ITER_HOLDS_OID(&it)) abort();
  return bson_iter_oid(&it);
}

static void finish(mongoc_cursor_t *cursor) {
  bson_error_t error;
  check(!mongoc_cursor_error(cursor, &error), &error);
  mongoc_cursor_destroy(cursor);
}

static void put_row(group *g, const bson_t *row) {
  if (g->count == g->capacity) {
    g->capacity = g->capacity ? g->capacity * 2 : 8;
    g->items = must(realloc(g->items, (size_t)g->capacity * sizeof *g->items));
  }
  g->items[g->count++] = (related){.row = bson_copy(row)};
}

/* Fills the groups of the first `count` parents; the table of labels holds their documents. */
static table load(mongoc_collection_t *rows, mongoc_collection_t *labels, int count, group *groups) {
  bson_t owners = BSON_INITIALIZER, wanted = BSON_INITIALIZER;
  const bson_t *document;
  uint32_t distinct = 0;
  table by_parent = new_table((uint32_t)count), by_label = new_table(LABELS);
  for (int i = 0; i < count; i++) {
    append_id(&owners, (uint32_t)i, &parents[i]);
    add_entry(&by_parent, &parents[i])->number = i;
  }
  mongoc_cursor_t *cursor = find_in(rows, "parent_id", &owners);
  while (mongoc_cursor_next(cursor, &document)) {
    const bson_oid_t *label = oid_of(document, "label_id");
    if (add_entry(&by_label, label)) append_id(&wanted, distinct++, label);
    put_row(&groups[find_entry(&by_parent, oid_of(document, "parent_id"))->number], document);
  }
  finish(cursor);
  cursor = find_in(labels, "_id", &wanted);
  while (mongoc_cursor_next(cursor, &document))
    find_entry(&by_label, oid_of(document, "_id"))->document = bson_copy(document);
  finish(cursor);
  for (int i = 0; i < count; i++)
    for (int n = 0; n < groups[i].count; n++)
      groups[i].items[n].label = find_entry(&by_label, oid_of(groups[i].items[n].row, "label_id"))->document;
  free(by_parent.entries);
  bson_destroy(&wanted);
  bson_destroy(&owners);
  return by_label;
}

static void unload(table *by_label, int count, group *groups) {
  for (int i = 0; i < count; i++) {
    if (groups[i].count != PER_PARENT) abort();
    for (int n = 0; n < groups[i].count; n++) bson_destroy(groups[i].items[n].row);
    free(groups[i].items);
  }
  for (uint32_t i = 0; i <= by_label->mask; i++)
    if (by_label->entries[i].document) bson_destroy(by_label->entries[i].document);
  free(by_label->entries);
}

static void measure(mongoc_client_t *client, const char *name, int count) {
  mongoc_collection_t *rows = mongoc_client_get_collection(client, DATABASE, "label_parent");
  mongoc_collection_t *labels = mongoc_client_get_collection(client, DATABASE, "labels");
  double lowest = 0, lowest_cpu = 0, memory = 0;
  char text[32];
  for (int pass = 0; pass < PASSES; pass++) {
    group *groups = must(calloc((size_t)count, sizeof *groups));
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    double start = wall(), start_cpu = cpu();
    table by_label = load(rows, labels, count, groups);
    keep_lowest(&lowest, wall() - start);
    keep_lowest(&lowest_cpu, cpu() - start_cpu);
    keep_lowest(&memory, (double)(mallinfo2().uordblks + mallinfo2().hblkhd - before));
    unload(&by_label, count, groups);
    free(groups);
  }
  report(name, lowest);
  snprintf(text, sizeof text, "%s_cpu", name);
  report(text, lowest_cpu);
  snprintf(text, sizeof text, "%s_memory", name);
  report(text, memory);
  mongoc_collection_destroy(labels);
  mongoc_collection_destroy(rows);
}

/* The bare aggregate of with_count: the pivot rows of 1,000 parents, grouped by the server and counted. */
static void measure_count(mongoc_client_t *client, int count) {
  mongoc_collection_t *rows = mongoc_client_get_collection(client, DATABASE, "label_parent");
  double lowest = 0;
  for (int pass = 0; pass < PASSES; pass++) {
    const bson_t *document;
    bson_t owners = BSON_INITIALIZER, *opts = BCON_NEW("batchSize", BCON_INT32(1000000));
    int found = 0;
    double start = wall();
    for (int i = 0; i < count; i++) append_id(&owners, (uint32_t)i, &parents[i]);
    bson_t *pipeline = BCON_NEW("pipeline", "[", "{", "$match", "{", "parent_id", "{", "$in", BCON_ARRAY(&owners), "}",
                                "}", "}", "{", "$group", "{", "_id", BCON_UTF8("$parent_id"), "n", "{", "$sum",
                                BCON_INT32(1), "}", "}", "}", "]");
    mongoc_cursor_t *cursor = mongoc_collection_aggregate(rows, MONGOC_QUERY_NONE, pipeline, opts, NULL);
    while (mongoc_cursor_next(cursor, &document)) {
      bson_iter_t it;
      if (!bson_iter_init_find(&it, document, "n") || bson_iter_as_int64(&it) != PER_PARENT) abort();
      found++;
    }
    finish(cursor);
    keep_lowest(&lowest, wall() - start);
    if (found != count) abort();
    bson_destroy(pipeline);
    bson_destroy(opts);
    bson_destroy(&owners);
  }
  report("with_count", lowest);
  mongoc_collection_destroy(rows);
}

static void load_parents(mongoc_client_t *client) {
  const bson_t *document;
  int count = 0;
  bson_t filter = BSON_INITIALIZER, *opts = BCON_NEW("sort", "{", "_id", BCON_INT32(1), "}");
  mongoc_collection_t *collection = mongoc_client_get_collection(client, DATABASE, "parents");
  mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, &filter, opts, NULL);
  while (count < PARENTS && mongoc_cursor_next(cursor, &document))
    bson_oid_copy(oid_of(document, "_id"), &parents[count++]);
  finish(cursor);
  if (count < PARENTS) abort();
  mongoc_collection_destroy(collection);
  bson_destroy(opts);
  bson_destroy(&filter);
}

int main(void) {
  mongoc_client_t *client = connect_client();
  load_parents(client);
  measure(client, "eager", 1000);
  measure(client, "merge", PARENTS);
  measure_count(client, 1000);
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
