/* What differs between two values, as the parts of an update. Values are written as short JSON. */
#include <ctype.h>

#include "core/diff.h"
#include "core/json.h"
#include "core/mem.h"

#include "check.h"

/* ---- a reader for the tests' JSON: objects, arrays, integers, strings, null; no blanks, no escapes ---- */

static void read_value(const char **text, const char *key, size_t len, lumo_buf *out);

static void read_nested(const char **text, const char *key, size_t len, lumo_buf *out) {
  bool array = **text == '[';
  char close = array ? ']' : '}';
  size_t mark = array ? lumo_bson_begin_array(out, key, len) : lumo_bson_begin_document(out, key, len);
  ++*text;
  for (uint32_t i = 0; **text != close; i++) {
    char digits[12];
    const char *name = digits;
    size_t name_len = (size_t)snprintf(digits, sizeof digits, "%u", i);
    if (!array) {
      name = *text + 1;
      name_len = (size_t)(strchr(name, '"') - name);
      *text = name + name_len + 2; /* the quote and the colon */
    }
    read_value(text, name, name_len, out);
    if (**text == ',') ++*text;
  }
  ++*text;
  lumo_bson_end(out, mark);
}

static void read_value(const char **text, const char *key, size_t len, lumo_buf *out) {
  if (**text == '{' || **text == '[') {
    read_nested(text, key, len, out);
  } else if (**text == '"') {
    const char *end = strchr(*text + 1, '"');
    lumo_bson_string(out, key, len, *text + 1, (size_t)(end - *text - 1));
    *text = end + 1;
  } else if (**text == 'n') {
    lumo_bson_null(out, key, len);
    *text += 4;
  } else {
    char *end;
    lumo_bson_int32(out, key, len, (int32_t)strtol(*text, &end, 10));
    *text = end;
  }
}

/* The value as an element without a name in `out`. */
static lumo_value value_of(const char *text, lumo_buf *out) {
  read_value(&text, "", 0, out);
  return (lumo_value){.type = out->data[0], .data = out->data + 2, .len = (uint32_t)out->len - 2};
}

static void check_elements(const lumo_buf *elements, const char *expected, const char *what) {
  lumo_buf document = {0}, text = {0};
  size_t mark = lumo_bson_begin(&document);
  lumo_buf_append(&document, elements->data, elements->len);
  lumo_bson_end(&document, mark);
  lumo_json_document(&text, document.data, document.len, false, LUMO_JSON_PLAIN);
  if (!check_true(text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0, what, __FILE__,
                  __LINE__))
    fprintf(stderr, "  is %.*s, should be %s\n", (int)text.len, (const char *)text.data, expected);
  lumo_buf_free(&document);
  lumo_buf_free(&text);
}

/* NULL for `set` says that only the whole can be set. */
static void check_diff(const char *before, const char *after, const char *set, const char *unset,
                       const char *guard) {
  lumo_buf bytes[6] = {{0}};
  lumo_diff diff = {.set = &bytes[0], .unset = &bytes[1], .guard = &bytes[2], .path = &bytes[3]};
  lumo_value old = value_of(before, &bytes[4]), new = value_of(after, &bytes[5]);
  bool added = lumo_diff_add(&diff, "m", 1, &old, &new);
  check_true(added == (set != NULL), after, __FILE__, __LINE__);
  check_elements(diff.set, set ? set : "{}", after);
  check_elements(diff.unset, set ? unset : "{}", after);
  check_elements(diff.guard, set ? guard : "{}", after);
  for (int i = 0; i < 6; i++) lumo_buf_free(&bytes[i]);
}

static void check_documents(void) {
  check_diff("{\"a\":1}", "{\"a\":1}", "{}", "{}", "{}");
  check_diff("{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", "{\"m.b\":3}", "{}", "{}");
  check_diff("{\"a\":1,\"b\":2}", "{\"b\":2}", "{}", "{\"m.a\":null}", "{}");
  check_diff("{\"a\":1}", "{\"a\":1,\"b\":{\"c\":1}}", "{\"m.b\":{\"c\":1}}", "{}", "{}");
  check_diff("{\"a\":1,\"b\":2,\"c\":3}", "{\"b\":4,\"d\":5}", "{\"m.b\":4,\"m.d\":5}",
             "{\"m.a\":null,\"m.c\":null}", "{}");
  check_diff("{\"a\":{\"b\":{\"c\":1,\"d\":2}}}", "{\"a\":{\"b\":{\"c\":9,\"d\":2}}}", "{\"m.a.b.c\":9}",
             "{}", "{}");
  check_diff("{\"a\":{\"b\":1}}", "{\"a\":[1]}", "{\"m.a\":[1]}", "{}", "{}");
  check_diff("{\"a\":1}", "{\"a\":\"1\"}", "{\"m.a\":\"1\"}", "{}", "{}");
  check_diff("{\"a\":1}", "{\"a\":null}", "{\"m.a\":null}", "{}", "{}");
  check_diff("{}", "{\"a\":1}", "{\"m.a\":1}", "{}", "{}");
}

static void check_whole(void) {
  check_diff("{\"a\":1}", "[1]", NULL, NULL, NULL);
  check_diff("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", NULL, NULL, NULL);
  check_diff("{\"a\":1,\"5\":2}", "{\"a\":1,\"5\":3}", NULL, NULL, NULL);
  check_diff("{\"a\":1,\"5\":2}", "{\"a\":2,\"5\":2}", "{\"m.a\":2}", "{}", "{}");
  check_diff("{\"a\":1}", "{\"a\":1,\"05\":2}", NULL, NULL, NULL);
  check_diff("{\"a.b\":1}", "{\"a.b\":2}", NULL, NULL, NULL);
  check_diff("{\"a\":{\"$x\":1,\"b\":1}}", "{\"a\":{\"$x\":2,\"b\":1}}", NULL, NULL, NULL);
  check_diff("{\"\":1,\"b\":1}", "{\"b\":1}", NULL, NULL, NULL);
  check_diff("{\"a\":1,\"z\":{\"$x\":1}}", "{\"a\":2,\"z\":{}}", NULL, NULL, NULL);
}

static void check_arrays(void) {
  const char *long_text = "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"b\",\"c\",\"d\",\"e\"]";
  check_diff(long_text, "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"b\",\"x\",\"d\",\"e\"]",
             "{\"m.2\":\"x\"}", "{}", "{\"m\":{\"$size\":5}}");
  check_diff("[1,2,3]", "[1,2,3,4]", "{\"m\":[1,2,3,4]}", "{}", "{}");
  check_diff("[1,2,3]", "[1,3]", "{\"m\":[1,3]}", "{}", "{}");
  /* Longer than the array, which would undo what others do to other elements. */
  check_diff("[1,2]", "[2,1]", "{\"m.0\":2,\"m.1\":1}", "{}", "{\"m\":{\"$size\":2}}");
  check_diff("{\"list\":[1,2],\"n\":1}", "{\"list\":[1],\"n\":1}", "{\"m.list\":[1]}", "{}", "{}");
  check_diff(
      "[{\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":1},{\"t\":\"bbbbbbbbbbbbbbbbbbbbbbbbb\",\"n\":2}]",
      "[{\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":1},{\"t\":\"bbbbbbbbbbbbbbbbbbbbbbbbb\"}]", "{}",
      "{\"m.1.n\":null}", "{\"m\":{\"$size\":2}}");
  check_diff("[{\"_id\":7,\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":1},{\"_id\":8,\"n\":2}]",
             "[{\"_id\":7,\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":5},{\"_id\":8,\"n\":2}]",
             "{\"m.0.n\":5}", "{}", "{\"m.0._id\":{\"$eq\":7}}");
  check_diff(
      "[{\"_id\":7,\"in\":[{\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":1},{\"n\":2}]}]",
      "[{\"_id\":7,\"in\":[{\"t\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"n\":1},{\"n\":3}]}]",
      "{\"m.0.in.1.n\":3}", "{}", "{\"m.0._id\":{\"$eq\":7},\"m.0.in\":{\"$size\":2}}");
}

/* Whatever allocation fails, the buffers say so and nothing else happens. */
static void check_memory(void) {
  for (unsigned long n = 1; n < 12; n++) {
    lumo_buf bytes[6] = {{0}};
    lumo_diff diff = {.set = &bytes[0], .unset = &bytes[1], .guard = &bytes[2], .path = &bytes[3]};
    lumo_value old =
        value_of("[{\"_id\":1,\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"b\":1}]", &bytes[4]);
    lumo_value new =
        value_of("[{\"_id\":1,\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"c\":1}]", &bytes[5]);
    lumo_mem_fail_at(n);
    bool added = lumo_diff_add(&diff, "m", 1, &old, &new);
    lumo_mem_fail_at(0);
    bool failed = bytes[0].failed || bytes[1].failed || bytes[2].failed || bytes[3].failed;
    CHECK(failed || (added && bytes[0].len && bytes[1].len && bytes[2].len));
    for (int i = 0; i < 6; i++) lumo_buf_free(&bytes[i]);
  }
}

int main(void) {
  check_documents();
  check_whole();
  check_arrays();
  check_memory();
  return check_report();
}
