/* The compiled schema: look-ups, suggestions, paths, every failure of its making. */
#include "core/mem.h"
#include "core/schema.h"

#include "check.h"

static lumo_schema *make_fields(const char *first, const char *first_stored, lumo_type type,
                                lumo_error *error) {
  lumo_schema *fields = lumo_schema_new("Post", NULL, true, error);
  if (fields && lumo_schema_add(fields, first, first_stored, first, type, error)) return fields;
  lumo_schema_free(fields);
  return NULL;
}

static bool add_meta(lumo_schema *schema, lumo_error *error) {
  lumo_column *meta = lumo_schema_add(schema, "meta", "meta", "meta", LUMO_OBJECT, error);
  if (!meta || !(meta->fields = make_fields("author", "author", LUMO_OBJECT, error))) return false;
  lumo_column *author = meta->fields->columns[0];
  if (!(author->fields = make_fields("name", "n", LUMO_STRING, error))) return false;
  if (!lumo_schema_seal(author->fields, error)) return false;
  lumo_column *tags = lumo_schema_add(meta->fields, "tags", "tags", "tags", LUMO_ARRAY, error);
  if (!tags || !(tags->of = lumo_column_new("tags", "tags", LUMO_STRING, error))) return false;
  return lumo_schema_seal(meta->fields, error);
}

static bool add_arrays(lumo_schema *schema, lumo_error *error) {
  lumo_column *labels = lumo_schema_add(schema, "labels", "labels", NULL, LUMO_ARRAY, error);
  if (!labels || !(labels->of = lumo_column_new("labels", "labels", LUMO_STRING, error))) return false;
  lumo_column *parts = lumo_schema_add(schema, "parts", "p", "parts", LUMO_ARRAY, error);
  if (!parts || !(parts->of = lumo_column_new("parts", "p", LUMO_OBJECT, error))) return false;
  if (!(parts->of->fields = make_fields("code", "c", LUMO_INTEGER, error))) return false;
  return lumo_schema_seal(parts->of->fields, error) &&
         lumo_schema_add(schema, "list", "list", "list", LUMO_ARRAY, error) != NULL;
}

/* A post: the primary column comes third, some are stored under other names, some nest. */
static bool fill(lumo_schema *schema, lumo_error *error) {
  if (!lumo_schema_add(schema, "title", "title", "title", LUMO_STRING, error)) return false;
  if (!lumo_schema_add(schema, "slug", "post_slug", "permalink", LUMO_STRING, error)) return false;
  lumo_column *id = lumo_schema_add(schema, "id", "_id", "id", LUMO_OBJECTID, error);
  if (!id) return false;
  id->primary = true;
  return add_meta(schema, error) && add_arrays(schema, error) &&
         lumo_schema_add(schema, "any", "any", "any", LUMO_ANY, error) &&
         lumo_schema_add(schema, "dotted.name", "dn", "dn", LUMO_INTEGER, error) &&
         lumo_schema_add(schema, "views", "views", "views", LUMO_INTEGER, error) &&
         lumo_schema_seal(schema, error);
}

static lumo_schema *make(bool strict, lumo_error *error) {
  lumo_schema *schema = lumo_schema_new("Post", "posts", strict, error);
  if (!schema || fill(schema, error)) return schema;
  lumo_schema_free(schema);
  return NULL;
}

static void test_types(void) {
  lumo_type type;
  for (int i = LUMO_ANY; i <= LUMO_OBJECT; i++) {
    CHECK(lumo_type_parse(lumo_type_name((lumo_type)i), &type));
    CHECK_INT(type, i);
  }
  CHECK(!lumo_type_parse("text", &type));
  CHECK(!lumo_type_parse("", &type));
}

static void test_lookup(const lumo_schema *schema) {
  static const char *const order[] = {"id",    "title", "slug", "meta",        "labels",
                                      "parts", "list",  "any",  "dotted.name", "views"};
  CHECK_INT(schema->count, sizeof order / sizeof *order);
  for (uint32_t i = 0; i < schema->count; i++) {
    const lumo_column *column = schema->columns[i];
    CHECK_TEXT(column->name, column->name_len, order[i]);
    CHECK_INT(column->index, i);
    CHECK(lumo_schema_find(schema, order[i], strlen(order[i])) == column);
    CHECK(lumo_schema_find_stored(schema, column->stored, column->stored_len) == column);
  }
  CHECK_INT(schema->primary, 0);
  CHECK(!lumo_schema_find(schema, "post_slug", 9));
  CHECK(!lumo_schema_find_stored(schema, "slug", 4));
  CHECK(!lumo_schema_find(schema, "titl", 4));
  CHECK(!lumo_schema_find(schema, "title\0", 6));
  CHECK(!lumo_schema_find(schema, "", 0));
  CHECK(lumo_schema_find(schema, "titles", 5) == schema->columns[1]);
  CHECK(!schema->columns[4]->serialized);
  CHECK_TEXT(schema->columns[2]->serialized, schema->columns[2]->serialized_len, "permalink");
}

static void test_nearest(const lumo_schema *schema) {
  static const char *const cases[][2] = {{"titel", "title"},
                                         {"tilte", "title"},
                                         {"Title", "title"},
                                         {"titles", "title"},
                                         {"vews", "views"},
                                         {"lables", "labels"},
                                         {"dottedName", "dotted.name"},
                                         {"nonsense", NULL},
                                         {"", NULL},
                                         {"x", NULL},
                                         {"ix", "id"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *nearest = lumo_schema_nearest(schema, cases[i][0], strlen(cases[i][0]));
    if (cases[i][1])
      CHECK_TEXT(nearest ? nearest : "(none)", nearest ? strlen(nearest) : 6, cases[i][1]);
    else
      CHECK(!nearest);
  }
  char longest[200];
  memset(longest, 't', sizeof longest);
  CHECK(!lumo_schema_nearest(schema, longest, sizeof longest));
  CHECK(!lumo_schema_nearest(schema, longest, 63));
}

static void check_resolves(const lumo_schema *schema, const char *path, const char *stored, int type) {
  lumo_buf buf = {0};
  lumo_error error;
  const lumo_column *column = NULL;
  lumo_error_init(&error);
  if (CHECK(lumo_schema_resolve(schema, path, strlen(path), &buf, &column, &error)))
    CHECK_TEXT(buf.data, buf.len, stored);
  else
    fprintf(stderr, "  %s: %s\n", path, error.message);
  CHECK_INT(column ? (int)column->type : -1, type);
  lumo_buf_free(&buf);
}

static void check_refused(const lumo_schema *schema, const char *path, size_t len, const char *code,
                          const char *message) {
  lumo_buf buf = {0};
  lumo_error error;
  const lumo_column *column = NULL;
  lumo_error_init(&error);
  CHECK(!lumo_schema_resolve(schema, path, len, &buf, &column, &error));
  CHECK_TEXT(error.code ? error.code : "", error.code ? strlen(error.code) : 0, code);
  if (message) CHECK_TEXT(error.message, strlen(error.message), message);
  lumo_buf_free(&buf);
}

static void test_paths(const lumo_schema *schema) {
  check_resolves(schema, "title", "title", LUMO_STRING);
  check_resolves(schema, "id", "_id", LUMO_OBJECTID);
  check_resolves(schema, "slug", "post_slug", LUMO_STRING);
  check_resolves(schema, "dotted.name", "dn", LUMO_INTEGER);
  check_resolves(schema, "meta", "meta", LUMO_OBJECT);
  check_resolves(schema, "meta.author", "meta.author", LUMO_OBJECT);
  check_resolves(schema, "meta.author.name", "meta.author.n", LUMO_STRING);
  check_resolves(schema, "meta.tags.3", "meta.tags.3", LUMO_STRING);
  check_resolves(schema, "labels", "labels", LUMO_ARRAY);
  check_resolves(schema, "labels.0", "labels.0", LUMO_STRING);
  check_resolves(schema, "parts.code", "p.c", LUMO_INTEGER);
  check_resolves(schema, "parts.12", "p.12", LUMO_OBJECT);
  check_resolves(schema, "parts.12.code", "p.12.c", LUMO_INTEGER);
  check_resolves(schema, "list.0", "list.0", -1);
  check_resolves(schema, "list.0.x", "list.0.x", -1);
  check_resolves(schema, "list.x.y", "list.x.y", -1);
  check_resolves(schema, "any.thing.0.else", "any.thing.0.else", -1);
}

#define REFUSED(path, code, message) check_refused(schema, (path), sizeof(path) - 1, (code), (message))

static void test_refused_paths(const lumo_schema *schema) {
  REFUSED("titel", "E_UNDEFINED_COLUMN",
          "\"titel\" is not a column of the \"Post\" model. Did you mean \"title\"?");
  REFUSED("nonsense.x", "E_UNDEFINED_COLUMN", "\"nonsense\" is not a column of the \"Post\" model");
  REFUSED("meta.autor.name", "E_UNDEFINED_COLUMN",
          "\"meta.autor\" is not a column of the \"Post\" model. Did you mean \"meta.author\"?");
  REFUSED("parts.7.kode", "E_UNDEFINED_COLUMN",
          "\"parts.7.kode\" is not a column of the \"Post\" model. Did you mean \"parts.7.code\"?");
  REFUSED("title.x", "E_UNDEFINED_COLUMN", "\"title.x\" is not a column of the \"Post\" model");
  REFUSED("labels.x", "E_UNDEFINED_COLUMN", NULL);
  REFUSED("labels.0.x", "E_UNDEFINED_COLUMN", NULL);
  REFUSED("post_slug", "E_UNDEFINED_COLUMN", NULL);
  REFUSED("_id", "E_UNDEFINED_COLUMN", NULL);
  REFUSED("", "E_ARGUMENT", NULL);
  REFUSED(".", "E_ARGUMENT", NULL);
  REFUSED("title.", "E_ARGUMENT", NULL);
  REFUSED(".title", "E_ARGUMENT", NULL);
  REFUSED("any..x", "E_ARGUMENT", NULL);
  REFUSED("$where", "E_ARGUMENT", NULL);
  REFUSED("any.$set", "E_ARGUMENT", NULL);
  REFUSED("title\0", "E_ARGUMENT", NULL);
  REFUSED("any.\xff", "E_ARGUMENT", NULL);
  char longest[4000];
  memset(longest, 'x', sizeof longest);
  check_refused(schema, longest, sizeof longest, "E_UNDEFINED_COLUMN", NULL);
}

static void test_loose(void) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_schema *schema = make(false, &error);
  if (!CHECK(schema != NULL)) return;
  check_resolves(schema, "nonsense", "nonsense", -1);
  check_resolves(schema, "nonsense.x.0", "nonsense.x.0", -1);
  check_resolves(schema, "slug", "post_slug", LUMO_STRING);
  REFUSED("$where", "E_ARGUMENT", NULL);
  REFUSED("title.x", "E_UNDEFINED_COLUMN", NULL);
  lumo_schema_free(schema);
}

static void check_seal_fails(const char *const names[][2], bool primary, const char *message) {
  lumo_error error;
  lumo_error_init(&error);
  lumo_schema *schema = lumo_schema_new("Post", "posts", true, &error);
  for (int i = 0; i < 2; i++)
    lumo_schema_add(schema, names[i][0], names[i][1], NULL, LUMO_ANY, &error)->primary = primary;
  CHECK(!lumo_schema_seal(schema, &error));
  CHECK_TEXT(error.code, strlen(error.code), "E_ARGUMENT");
  CHECK_TEXT(error.message, strlen(error.message), message);
  lumo_schema_free(schema);
}

static void test_seal(void) {
  static const char *const same_name[][2] = {{"a", "x"}, {"a", "y"}};
  static const char *const same_stored[][2] = {{"a", "x"}, {"b", "x"}};
  static const char *const different[][2] = {{"a", "x"}, {"b", "y"}};
  lumo_error error;
  check_seal_fails(same_name, false, "\"Post\" model has two columns of the name \"a\"");
  check_seal_fails(same_stored, false, "\"Post\" model has two columns stored as \"x\"");
  check_seal_fails(different, true, "\"Post\" model has two primary columns, \"a\" and \"b\"");
  lumo_error_init(&error);
  lumo_schema *empty = lumo_schema_new("Empty", NULL, true, &error);
  CHECK(lumo_schema_seal(empty, &error));
  CHECK_INT(empty->primary, -1);
  CHECK(!lumo_schema_find(empty, "x", 1));
  CHECK(!lumo_schema_nearest(empty, "x", 1));
  lumo_schema_free(empty);
  lumo_schema_free(NULL);
  lumo_column_free(NULL);
}

static void test_many(void) {
  enum { MANY = 3000 };
  lumo_error error;
  char name[24], stored[24];
  lumo_error_init(&error);
  lumo_schema *schema = lumo_schema_new("Wide", "wide", true, &error);
  for (int i = 0; i < MANY; i++) {
    snprintf(name, sizeof name, "column%d", i);
    snprintf(stored, sizeof stored, "c%d", i);
    lumo_schema_add(schema, name, stored, name, LUMO_INTEGER, &error);
  }
  CHECK(lumo_schema_seal(schema, &error));
  int found = 0;
  for (int i = 0; i < MANY; i++) {
    int len = snprintf(name, sizeof name, "column%d", i),
        stored_len = snprintf(stored, sizeof stored, "c%d", i);
    const lumo_column *column = lumo_schema_find(schema, name, (size_t)len);
    found += column && column->index == (uint32_t)i &&
             lumo_schema_find_stored(schema, stored, (size_t)stored_len) == column;
  }
  CHECK_INT(found, MANY);
  lumo_schema_free(schema);
}

/* Every allocation fails once: each time the making says so, and nothing leaks (which the sanitizer sees). */
static void test_memory(void) {
  for (unsigned long n = 1;; n++) {
    lumo_error error;
    lumo_error_init(&error);
    lumo_mem_fail_at(n);
    lumo_schema *schema = make(true, &error);
    lumo_mem_fail_at(0);
    if (schema) {
      CHECK(n > 50);
      lumo_schema_free(schema);
      break;
    }
    if (!CHECK(error.code && strcmp(error.code, "E_MEMORY") == 0)) break;
  }
}

static void test_path_memory(const lumo_schema *schema) {
  lumo_buf buf = {0};
  lumo_error error;
  const lumo_column *column;
  lumo_error_init(&error);
  lumo_mem_fail_at(1);
  CHECK(!lumo_schema_resolve(schema, "meta.author.name", 16, &buf, &column, &error));
  lumo_mem_fail_at(0);
  CHECK_TEXT(error.code, strlen(error.code), "E_MEMORY");
  lumo_buf_free(&buf);
}

int main(void) {
  lumo_error error;
  lumo_error_init(&error);
  test_types();
  lumo_schema *schema = make(true, &error);
  if (CHECK(schema != NULL)) {
    test_lookup(schema);
    test_nearest(schema);
    test_paths(schema);
    test_refused_paths(schema);
    test_path_memory(schema);
  }
  lumo_schema_free(schema);
  test_loose();
  test_seal();
  test_many();
  test_memory();
  return check_report();
}
