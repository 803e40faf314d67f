/* What the C programs share: clocks, the connection, the document of the benchmark, and how a figure is said.
 * They are written as the manuals of libmongoc and libbson show, in what a careful programmer would send. */
#ifndef LUMO_BENCH_COMMON_H
#define LUMO_BENCH_COMMON_H

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DATABASE "lumo_bench"
#define DOCUMENTS 10000
#define DOCUMENT_SIZE 750

static inline double seconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* CPU of this process: user and system, all of its threads. */
static inline double cpu(void) {
  return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static inline double wall(void) {
  return seconds(CLOCK_MONOTONIC);
}

static inline void keep_lowest(double *lowest, double value) {
  if (*lowest == 0 || value < *lowest) *lowest = value;
}

/* One figure: its name and seconds for one unit. */
static inline void report(const char *name, double value) {
  printf("%s %.9g\n", name, value);
}

static inline void check(bool ok, const bson_error_t *error) {
  if (ok) return;
  fprintf(stderr, "bench: %s\n", error->message);
  exit(1);
}

static inline mongoc_client_t *connect_client(void) {
  bson_error_t error;
  const char *text = getenv("LUMO_TEST_URI");
  mongoc_init();
  mongoc_uri_t *uri = mongoc_uri_new_with_error(text ? text : "", &error);
  check(uri != NULL, &error);
  mongoc_client_t *client = mongoc_client_new_from_uri(uri);
  mongoc_uri_destroy(uri);
  mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
  return client;
}

/* The post with a number: 13 fields, DOCUMENT_SIZE bytes, as bench/common.lua makes it. */
static inline void append_post(bson_t *post, int n, const bson_oid_t *author, const char *body) {
  char title[80], slug[80];
  bson_oid_t id;
  snprintf(title, sizeof title, "Post number %06d, and a title as long as most of them are", n);
  snprintf(slug, sizeof slug, "post-number-%06d-and-a-title-as-long-as-most-of-them-are", n);
  bson_oid_init(&id, NULL);
  BSON_APPEND_OID(post, "_id", &id);
  BSON_APPEND_UTF8(post, "title", title);
  BSON_APPEND_UTF8(post, "slug", slug);
  BSON_APPEND_UTF8(post, "summary", "What the post has to say, in one sentence.");
  BSON_APPEND_UTF8(post, "body", body);
  BSON_APPEND_OID(post, "author_id", author);
  BSON_APPEND_UTF8(post, "status", "published");
  BSON_APPEND_INT32(post, "views", n);
  BSON_APPEND_INT32(post, "likes", n % 100);
  BSON_APPEND_DOUBLE(post, "rating", n + 0.25);
  BSON_APPEND_BOOL(post, "featured", n % 2 == 0);
  BSON_APPEND_DATE_TIME(post, "created_at", 1700000000000 + n);
  BSON_APPEND_DATE_TIME(post, "updated_at", 1700000000000 + n);
}

/* A body of the length that makes a post DOCUMENT_SIZE bytes. */
static inline char *make_body(void) {
  bson_t empty = BSON_INITIALIZER;
  bson_oid_t author;
  bson_oid_init(&author, NULL);
  append_post(&empty, 1, &author, "");
  size_t len = DOCUMENT_SIZE - empty.len;
  char *body = malloc(len + 1);
  if (!body) abort();
  for (size_t i = 0; i < len; i++) body[i] = "the quick brown fox "[i % 20];
  body[len] = '\0';
  bson_destroy(&empty);
  return body;
}

#endif
