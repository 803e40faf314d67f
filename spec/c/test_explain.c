/* What of a step can be explained, which commands are of one shape, and the server's answers: no server. */
#include "core/explain.h"

#include "check.h"
#include "core/json.h"
#include "core/mem.h"

static lumo_buf parse(const char *json) {
  lumo_buf out = {0};
  lumo_error error;
  lumo_error_init(&error);
  CHECK(lumo_json_parse(&out, json, strlen(json), &error));
  return out;
}

/* The only command of a step. */
static lumo_explainable explainable(lumo_step_kind kind, const char *json, lumo_buf *bytes) {
  lumo_explainable one = {0};
  size_t at = 0;
  *bytes = parse(json);
  lumo_step step = {
      .kind = kind, .collection = "c", .command = bytes->data, .command_len = (uint32_t)bytes->len};
  CHECK(lumo_explainable_next(&step, &at, &one));
  return one;
}

static uint64_t shape(const char *json) {
  lumo_buf bytes;
  lumo_explainable one = explainable(LUMO_STEP_READ, json, &bytes);
  uint64_t found = lumo_explainable_shape(&one);
  lumo_buf_free(&one.command);
  lumo_buf_free(&bytes);
  return found;
}

static bool filtered(const char *json) {
  lumo_buf bytes;
  lumo_explainable one = explainable(LUMO_STEP_READ, json, &bytes);
  bool found = one.filtered;
  lumo_buf_free(&one.command);
  lumo_buf_free(&bytes);
  return found;
}

static void test_shapes(void) {
  uint64_t plain = shape("{\"find\": \"c\", \"filter\": {\"a\": 1}, \"limit\": 1}");
  CHECK(plain == shape("{\"find\": \"c\", \"filter\": {\"a\": 2.5}, \"skip\": 7}"));
  CHECK(plain != shape("{\"find\": \"c\", \"filter\": {\"a\": \"text\"}}"));
  CHECK(plain != shape("{\"find\": \"c\", \"filter\": {\"b\": 1}}"));
  CHECK(plain != shape("{\"find\": \"d\", \"filter\": {\"a\": 1}}"));
  CHECK(plain != shape("{\"find\": \"c\", \"filter\": {\"a\": 1}, \"sort\": {\"b\": 1}}"));
  CHECK(plain != shape("{\"find\": \"c\", \"filter\": {\"a\": 1}, \"hint\": \"a_1\"}"));
  CHECK(shape("{\"find\": \"c\", \"filter\": {\"a\": {\"$in\": [1, 2, 3]}}}") ==
        shape("{\"find\": \"c\", \"filter\": {\"a\": {\"$in\": [4, 5]}}}"));
  CHECK(shape("{\"find\": \"c\", \"sort\": {\"a\": 1}}") !=
        shape("{\"find\": \"c\", \"sort\": {\"a\": -1}}"));
  CHECK(shape("{\"aggregate\": \"c\", \"pipeline\": [{\"$lookup\": {\"from\": \"x\"}}]}") !=
        shape("{\"aggregate\": \"c\", \"pipeline\": [{\"$lookup\": {\"from\": \"y\"}}]}"));
  CHECK(shape("{\"aggregate\": \"c\", \"pipeline\": [{\"$group\": {\"_id\": \"$a\"}}]}") !=
        shape("{\"aggregate\": \"c\", \"pipeline\": [{\"$group\": {\"_id\": \"$b\"}}]}"));
}

static void test_filters(void) {
  CHECK(!filtered("{\"find\": \"c\"}"));
  CHECK(!filtered("{\"find\": \"c\", \"filter\": {}}"));
  CHECK(!filtered("{\"find\": \"c\", \"filter\": {\"$and\": [{}, {\"$or\": [{}]}]}}"));
  CHECK(filtered("{\"find\": \"c\", \"filter\": {\"$and\": [{\"a\": 1}]}}"));
  CHECK(filtered("{\"find\": \"c\", \"filter\": {\"$expr\": true}}"));
  CHECK(filtered("{\"aggregate\": \"c\", \"pipeline\": [{\"$match\": {\"a\": 1}}]}"));
  CHECK(!filtered("{\"aggregate\": \"c\", \"pipeline\": [{\"$limit\": 1}, {\"$match\": {\"a\": 1}}]}"));
  lumo_buf bytes = parse("{\"$and\": [{\"a.b\": {\"c\": 1}}, {\"$or\": [{\"d\": 1}, {\"a.b\": 2}]}]}"),
           names = {0};
  lumo_value filter = {.data = bytes.data, .len = (uint32_t)bytes.len, .type = LUMO_BSON_DOCUMENT};
  lumo_filter_fields(&filter, &names);
  lumo_iter it = lumo_iter_elements(&names);
  uint32_t len;
  CHECK(lumo_iter_next(&it) && strcmp(lumo_value_text(&it.value, &len), "a.b") == 0);
  CHECK(lumo_iter_next(&it) && strcmp(lumo_value_text(&it.value, &len), "d") == 0);
  CHECK(!lumo_iter_next(&it));
  lumo_buf_free(&names);
  lumo_buf_free(&bytes);
}

static void test_statements(void) {
  lumo_buf statements = {0}, q = parse("{\"a\": 1}"), u = parse("{\"$set\": {\"b\": 2}}");
  lumo_buf options = parse("{\"hint\": {\"$natural\": 1}, \"comment\": \"x\"}");
  lumo_statement_begin(&statements, LUMO_INSERT);
  lumo_buf_append(&statements, q.data, q.len);
  lumo_statement_begin(&statements, LUMO_UPDATE_MANY);
  lumo_buf_append(&statements, q.data, q.len);
  lumo_buf_append(&statements, u.data, u.len);
  lumo_statement_options(&statements, options.data + 4, options.len - 5);
  lumo_statement_begin(&statements, LUMO_DELETE_ONE);
  lumo_buf_append(&statements, q.data, q.len);
  lumo_step step = {.kind = LUMO_STEP_WRITE, .collection = "c", .statements = &statements};
  lumo_explainable one = {0};
  size_t at = 0;
  CHECK(lumo_explainable_next(&step, &at, &one) && strcmp(one.name, "update") == 0 && one.filtered);
  CHECK(!lumo_explainable_scans(&one));
  CHECK(lumo_explainable_next(&step, &at, &one) && strcmp(one.name, "delete") == 0);
  CHECK(lumo_explainable_scans(&one));
  CHECK(!lumo_explainable_next(&step, &at, &one));
  lumo_buf_free(&one.command);
  lumo_buf_free(&statements);
  lumo_buf_free(&options);
  lumo_buf_free(&q);
  lumo_buf_free(&u);
}

static lumo_explanation said(const char *json) {
  lumo_buf bytes = parse(json);
  lumo_explanation out = {0};
  CHECK(lumo_explanation_read(&out, bytes.data, (uint32_t)bytes.len));
  lumo_buf_free(&bytes);
  return out;
}

static void test_answers(void) {
  lumo_explanation one = said(
      "{\"queryPlanner\": {\"winningPlan\": {\"stage\": \"SORT\", \"inputStage\": {\"stage\": \"COLLSCAN\"}},"
      "\"rejectedPlans\": [{\"stage\": \"IXSCAN\", \"indexName\": \"no\"}]},"
      "\"executionStats\": {\"totalKeysExamined\": 1, \"totalDocsExamined\": 2, \"nReturned\": 3}}");
  CHECK(one.scans && one.sorts && !one.join_scans && one.counted);
  CHECK(one.keys == 1 && one.documents == 2 && one.returned == 3 && one.indexes.len == 0);
  lumo_explanation_free(&one);
  /* through mongos, and by the newer engine */
  one = said(
      "{\"queryPlanner\": {\"winningPlan\": {\"stage\": \"SHARD_MERGE\", \"shards\": ["
      "{\"winningPlan\": {\"queryPlan\": {\"stage\": \"EQ_LOOKUP\", \"foreignCollection\": \"d.x.y\","
      "\"strategy\": \"HashJoin\", \"inputStage\": {\"stage\": \"IXSCAN\", \"indexName\": \"a_1\"}}}}]}}}");
  CHECK(!one.scans && one.join_scans && one.joins.len > 0 && one.indexes.len > 0 && !one.counted);
  lumo_explanation_free(&one);
  one = said(
      "{\"shards\": {\"s1\": {\"stages\": [{\"$cursor\": {\"queryPlanner\": {\"winningPlan\": {\"stage\":"
      "\"IDHACK\"}}, \"executionStats\": {\"totalDocsExamined\": 1, \"nReturned\": 9}}},"
      "{\"$lookup\": {\"from\": \"x\"}, \"collectionScans\": 0, \"totalDocsExamined\": 4, \"nReturned\": "
      "2}]},"
      "\"s2\": {\"stages\": [{\"$cursor\": {}, \"nReturned\": 5}]}}}");
  CHECK(one.documents == 5 && one.returned == 7 && !one.join_scans && one.join_count == 1);
  lumo_explanation_free(&one);
  /* what an app's own documents say is not taken for the server's words */
  one = said(
      "{\"stages\": [{\"$match\": {\"stage\": \"COLLSCAN\", \"winningPlan\": {\"stage\": \"COLLSCAN\"}}}],"
      "\"command\": {\"winningPlan\": {\"stage\": \"COLLSCAN\"}}}");
  CHECK(!one.scans);
  lumo_explanation_free(&one);
  one = said("{\"queryPlanner\": 5, \"executionStats\": [], \"stages\": [1, {}], \"shards\": [null]}");
  CHECK(!one.scans && !one.counted);
  lumo_explanation_free(&one);
}

int main(void) {
  test_shapes();
  test_filters();
  test_statements();
  test_answers();
  return check_report();
}
