/* 50,000 documents made with bson_append_… and stored by one bulk insert. */
#include "common.h"

#define ROWS 50000
#define AUTHORS 100
#define PASSES 2

static post posts[ROWS];

static void fill(post *p, int n, const bson_oid_t *author) {
  bson_t document = BSON_INITIALIZER;
  *p = (post){.number = n, .author = *author, .body = ""};
  snprintf(p->title, sizeof p->title, "Post number %06d, and a title as long as most of them are", n);
  snprintf(p->slug, sizeof p->slug, "post-number-%06d-and-a-title-as-long-as-most-of-them-are", n);
  append_post(&document, p);
  size_t len = DOCUMENT_SIZE - document.len;
  bson_destroy(&document);
  p->body = malloc(len + 1);
  if (!p->body) abort();
  for (size_t i = 0; i < len; i++) p->body[i] = "the quick brown fox "[i % 20];
  p->body[len] = '\0';
}

static void create_many(mongoc_collection_t *collection) {
  bson_error_t error;
  mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(collection, NULL);
  for (int i = 0; i < ROWS; i++) {
    bson_t document = BSON_INITIALIZER;
    append_post(&document, &posts[i]);
    check(mongoc_bulk_operation_insert_with_opts(bulk, &document, NULL, &error), &error);
    bson_destroy(&document);
  }
  check(mongoc_bulk_operation_execute(bulk, NULL, &error) != 0, &error);
  mongoc_bulk_operation_destroy(bulk);
}

int main(void) {
  mongoc_client_t *client = connect_client();
  mongoc_collection_t *collection = mongoc_client_get_collection(client, DATABASE, "created");
  bson_error_t error;
  bson_oid_t authors[AUTHORS];
  double lowest = 0;
  for (int i = 0; i < AUTHORS; i++) bson_oid_init(&authors[i], NULL);
  for (int i = 0; i < ROWS; i++) fill(&posts[i], i, &authors[i % AUTHORS]);
  for (int pass = 0; pass < PASSES; pass++) {
    check(mongoc_collection_delete_many(collection, &(bson_t)BSON_INITIALIZER, NULL, NULL, &error), &error);
    double start = cpu();
    create_many(collection);
    keep_lowest(&lowest, (cpu() - start) / ROWS);
  }
  report("create_many", lowest);
  for (int i = 0; i < ROWS; i++) free(posts[i].body);
  mongoc_collection_destroy(collection);
  mongoc_client_destroy(client);
  mongoc_cleanup();
}
