/* Extended JSON both ways. */
#include "check.h"
#include "core/bson.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mem.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Parses a copy of exactly the text's bytes. */
static bool parse(lumo_buf *out, const char *text, size_t len, lumo_error *error) {
  char *copy = malloc(len ? len : 1);
  memcpy(copy, text, len);
  lumo_error_init(error);
  bool good = lumo_json_parse(out, copy, len, error);
  free(copy);
  return good;
}

/* ---- writing ---- */

static void test_modes(void) {
  static const struct {
    const char *hex; /* type byte and value */
    const char *canonical, *relaxed, *plain;
  } cases[] = {
      {"01 000000000000f83f", "{\"$numberDouble\":\"1.5\"}", "1.5", "1.5"},
      {"01 0000000000000080", "{\"$numberDouble\":\"-0.0\"}", "-0.0", "-0.0"},
      {"01 000000000000f87f", "{\"$numberDouble\":\"NaN\"}", "{\"$numberDouble\":\"NaN\"}", "null"},
      {"01 000000000000f0ff", "{\"$numberDouble\":\"-Infinity\"}", "{\"$numberDouble\":\"-Infinity\"}",
       "null"},
      {"10 ffffffff", "{\"$numberInt\":\"-1\"}", "-1", "-1"},
      {"12 0000000000002000", "{\"$numberLong\":\"9007199254740992\"}", "9007199254740992",
       "9007199254740992"},
      {"12 0100000000002000", "{\"$numberLong\":\"9007199254740993\"}", "9007199254740993",
       "\"9007199254740993\""},
      {"12 0000000000000080", "{\"$numberLong\":\"-9223372036854775808\"}", "-9223372036854775808",
       "\"-9223372036854775808\""},
      {"13 0b000000000000000000000000003e30", "{\"$numberDecimal\":\"1.1\"}", "{\"$numberDecimal\":\"1.1\"}",
       "\"1.1\""},
      {"02 04000000 c3a92f 00", "\"é/\"", "\"é/\"", "\"é/\""},
      {"08 00", "false", "false", "false"},
      {"0a", "null", "null", "null"},
      {"00", "null", "null", "null"},
      {"07 0102030405060708090a0b0c", "{\"$oid\":\"0102030405060708090a0b0c\"}",
       "{\"$oid\":\"0102030405060708090a0b0c\"}", "\"0102030405060708090a0b0c\""},
      {"09 0000000000000000", "{\"$date\":{\"$numberLong\":\"0\"}}", "{\"$date\":\"1970-01-01T00:00:00Z\"}",
       "\"1970-01-01T00:00:00.000Z\""},
      {"09 f500000000000000", "{\"$date\":{\"$numberLong\":\"245\"}}",
       "{\"$date\":\"1970-01-01T00:00:00.245Z\"}", "\"1970-01-01T00:00:00.245Z\""},
      {"09 ffffffffffffffff", "{\"$date\":{\"$numberLong\":\"-1\"}}", "{\"$date\":{\"$numberLong\":\"-1\"}}",
       "\"1969-12-31T23:59:59.999Z\""},
      {"09 00dc1fd277e60000", "{\"$date\":{\"$numberLong\":\"253402300800000\"}}",
       "{\"$date\":{\"$numberLong\":\"253402300800000\"}}", "\"+010000-01-01T00:00:00.000Z\""},
      {"05 00000000 00", "{\"$binary\":{\"base64\":\"\",\"subType\":\"00\"}}",
       "{\"$binary\":{\"base64\":\"\",\"subType\":\"00\"}}", "\"\""},
      {"05 01000000 80 ff", "{\"$binary\":{\"base64\":\"/w==\",\"subType\":\"80\"}}",
       "{\"$binary\":{\"base64\":\"/w==\",\"subType\":\"80\"}}", "\"/w==\""},
      {"05 06000000 02 02000000 fbff", "{\"$binary\":{\"base64\":\"+/8=\",\"subType\":\"02\"}}",
       "{\"$binary\":{\"base64\":\"+/8=\",\"subType\":\"02\"}}", "\"+/8=\""},
      {"05 10000000 04 73ffd26444b34c6990e8e7d1dfc035d4",
       "{\"$binary\":{\"base64\":\"c//SZESzTGmQ6OfR38A11A==\",\"subType\":\"04\"}}",
       "{\"$binary\":{\"base64\":\"c//SZESzTGmQ6OfR38A11A==\",\"subType\":\"04\"}}",
       "\"73ffd264-44b3-4c69-90e8-e7d1dfc035d4\""},
      {"06", "{\"$undefined\":true}", "{\"$undefined\":true}", "{\"$undefined\":true}"},
      {"0b 5c22 00 7869 00", "{\"$regularExpression\":{\"pattern\":\"\\\\\\\"\",\"options\":\"ix\"}}",
       "{\"$regularExpression\":{\"pattern\":\"\\\\\\\"\",\"options\":\"ix\"}}",
       "{\"$regularExpression\":{\"pattern\":\"\\\\\\\"\",\"options\":\"ix\"}}"},
      {"0c 02000000 63 00 0102030405060708090a0b0c",
       "{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"0102030405060708090a0b0c\"}}}",
       "{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"0102030405060708090a0b0c\"}}}",
       "{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"0102030405060708090a0b0c\"}}}"},
      {"0d 02000000 66 00", "{\"$code\":\"f\"}", "{\"$code\":\"f\"}", "{\"$code\":\"f\"}"},
      {"0e 02000000 66 00", "{\"$symbol\":\"f\"}", "{\"$symbol\":\"f\"}", "{\"$symbol\":\"f\"}"},
      {"0f 16000000 02000000 66 00 0c000000 10 61 00 01000000 00",
       "{\"$code\":\"f\",\"$scope\":{\"a\":{\"$numberInt\":\"1\"}}}",
       "{\"$code\":\"f\",\"$scope\":{\"a\":1}}", "{\"$code\":\"f\",\"$scope\":{\"a\":1}}"},
      {"11 ffffffff01000000", "{\"$timestamp\":{\"t\":1,\"i\":4294967295}}",
       "{\"$timestamp\":{\"t\":1,\"i\":4294967295}}", "{\"$timestamp\":{\"t\":1,\"i\":4294967295}}"},
      {"ff", "{\"$minKey\":1}", "{\"$minKey\":1}", "{\"$minKey\":1}"},
      {"7f", "{\"$maxKey\":1}", "{\"$maxKey\":1}", "{\"$maxKey\":1}"},
      {"03 14000000 10 61 00 01000000 04 62 00 05000000 00 00", "{\"a\":{\"$numberInt\":\"1\"},\"b\":[]}",
       "{\"a\":1,\"b\":[]}", "{\"a\":1,\"b\":[]}"},
      {"04 14000000 10 30 00 01000000 03 31 00 05000000 00 00", "[{\"$numberInt\":\"1\"},{}]", "[1,{}]",
       "[1,{}]"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    const char *expected[] = {cases[i].canonical, cases[i].relaxed, cases[i].plain};
    size_t len;
    uint8_t *bytes = check_bytes(cases[i].hex, &len);
    lumo_value v = {bytes + 1, (uint32_t)len - 1, bytes[0]};
    for (int mode = LUMO_JSON_CANONICAL; mode <= LUMO_JSON_PLAIN; mode++) {
      lumo_buf out = {0};
      lumo_json_value(&out, &v, (lumo_json_mode)mode);
      CHECK_TEXT(out.data, out.len, expected[mode]);
      lumo_buf_free(&out);
    }
    free(bytes);
  }
}

static void test_string(void) {
  static const char text[] = "\"\\/\b\f\n\r\t\0\x01\x1f\x7f"
                             "aé☆😀";
  lumo_buf out = {0};
  lumo_json_string(&out, text, sizeof text - 1);
  CHECK_TEXT(out.data, out.len,
             "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u0001\\u001f\x7f"
             "aé☆😀\"");
  lumo_buf_clear(&out);
  lumo_json_string(&out, "", 0);
  CHECK_TEXT(out.data, out.len, "\"\"");
  lumo_buf_clear(&out);
  lumo_json_document(&out, (const uint8_t *)"\x0c\0\0\0\x10\"\0\1\0\0\0", 12, true, LUMO_JSON_RELAXED);
  CHECK_TEXT(out.data, out.len, "[1]");
  lumo_buf_free(&out);
}

/* A character to be escaped at every place of texts of every length: they are looked at in words of several
 * sizes. The text is copied, so that a sanitizer sees what is read beyond it. */
static void test_every_place(void) {
  static const char special[] = {'"', '\\', '\n', 0x1F, 0x7F, ' ', (char)0xC3};
  for (size_t len = 0; len <= 70; len++)
    for (size_t at = 0; at <= len; at++)
      for (size_t k = 0; k < sizeof special; k++) {
        char *text = malloc(len + 1), expected[160], *p = expected;
        memset(text, 'x', len);
        char *exact = malloc(len ? len : 1);
        if (at < len) text[at] = special[k];
        memcpy(exact, text, len);
        *p++ = '"';
        for (size_t i = 0; i < len; i++) {
          unsigned char c = (unsigned char)text[i];
          if (c == '\n' || c == '"' || c == '\\') *p++ = '\\';
          if (c == 0x1F) {
            memcpy(p, "\\u001f", 6);
            p += 6;
          } else {
            *p++ = c == '\n' ? 'n' : (char)c;
          }
        }
        *p++ = '"';
        lumo_buf out = {0};
        lumo_json_string(&out, exact, len);
        CHECK(out.len == (size_t)(p - expected) && memcmp(out.data, expected, out.len) == 0);
        lumo_buf_free(&out);
        free(exact);
        free(text);
      }
}

/* ---- parsing ---- */

/* What is read, written again in canonical form. */
static void test_parse(void) {
  static const char *const cases[][2] = {
      {" { } ", "{}"},
      {"{\"a\":1,\"a\":2}", "{\"a\":{\"$numberInt\":\"1\"},\"a\":{\"$numberInt\":\"2\"}}"},
      {"\t{\r\n\"a\" : [ 1 , [ ] , null , true , false ] }",
       "{\"a\":[{\"$numberInt\":\"1\"},[],null,true,false]}"},
      {"{\"a\":[2147483647,2147483648,-2147483648,-2147483649]}",
       "{\"a\":[{\"$numberInt\":\"2147483647\"},{\"$numberLong\":\"2147483648\"},{\"$numberInt\":\"-"
       "2147483648\"},"
       "{\"$numberLong\":\"-2147483649\"}]}"},
      {"{\"a\":[9223372036854775807,9223372036854775808,-9223372036854775808,-9223372036854775809]}",
       "{\"a\":[{\"$numberLong\":\"9223372036854775807\"},{\"$numberDouble\":\"9.223372036854776e+18\"},"
       "{\"$numberLong\":\"-9223372036854775808\"},{\"$numberDouble\":\"-9.223372036854776e+18\"}]}"},
      {"{\"a\":[1.0,-0.5e-2,1E3,0]}", "{\"a\":[{\"$numberDouble\":\"1.0\"},{\"$numberDouble\":\"-0.005\"},{"
                                      "\"$numberDouble\":\"1000.0\"},{\"$numberInt\":\"0\"}]}"},
      {"{\"\":\"\",\"a.b\":\"\\u00e9\\u2606\\ud83d\\ude00\\/\\\"\\\\\\b\\f\\n\\r\\t\"}",
       "{\"\":\"\",\"a.b\":\"é☆😀/\\\"\\\\\\b\\f\\n\\r\\t\"}"},
      {"{\"\\u0061\":\"\\u0000\"}", "{\"a\":\"\\u0000\"}"},
      {"{\"d\":{\"$date\":\"2012-12-24T12:15:30.501Z\"}}",
       "{\"d\":{\"$date\":{\"$numberLong\":\"1356351330501\"}}}"},
      {"{\"d\":{\"$date\":\"2012-12-24T13:15:30+01:00\"}}",
       "{\"d\":{\"$date\":{\"$numberLong\":\"1356351330000\"}}}"},
      {"{\"b\":{\"$binary\":\"//8=\",\"$type\":\"5\"}}",
       "{\"b\":{\"$binary\":{\"base64\":\"//8=\",\"subType\":\"05\"}}}"},
      {"{\"b\":{\"$type\":\"02\",\"$binary\":\"//8=\"}}",
       "{\"b\":{\"$binary\":{\"base64\":\"//8=\",\"subType\":\"02\"}}}"},
      {"{\"b\":{\"$type\":\"string\"}}", "{\"b\":{\"$type\":\"string\"}}"},
      {"{\"b\":{\"$uuid\":\"73FFD264-44b3-4c69-90e8-e7d1dfc035d4\"}}",
       "{\"b\":{\"$binary\":{\"base64\":\"c//SZESzTGmQ6OfR38A11A==\",\"subType\":\"04\"}}}"},
      {"{\"r\":{\"$options\":\"xi\",\"$regex\":\"a+\"}}",
       "{\"r\":{\"$regularExpression\":{\"pattern\":\"a+\",\"options\":\"ix\"}}}"},
      {"{\"r\":{\"$regex\":\"a+\"}}", "{\"r\":{\"$regex\":\"a+\"}}"},
      {"{\"r\":{\"$regex\":\"a+\",\"$options\":\"i\",\"$ne\":\"b\"}}",
       "{\"r\":{\"$regex\":\"a+\",\"$options\":\"i\",\"$ne\":\"b\"}}"},
      {"{\"$regex\":\"a+\",\"$options\":\"i\"}", "{\"$regex\":\"a+\",\"$options\":\"i\"}"},
      {"{\"r\":{\"$regularExpression\":{\"options\":\"é\",\"pattern\":\"\"}}}",
       "{\"r\":{\"$regularExpression\":{\"pattern\":\"\",\"options\":\"é\"}}}"},
      {"{\"c\":{\"$scope\":{\"x\":[1]},\"$code\":\"f\"}}",
       "{\"c\":{\"$code\":\"f\",\"$scope\":{\"x\":[{\"$numberInt\":\"1\"}]}}}"},
      {"{\"c\":{\"$scope\":1}}", "{\"c\":{\"$scope\":{\"$numberInt\":\"1\"}}}"},
      {"{\"p\":{\"$dbPointer\":{\"$id\":{\"$oid\":\"0102030405060708090A0B0C\"},\"$ref\":\"c\"}}}",
       "{\"p\":{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"0102030405060708090a0b0c\"}}}}"},
      {"{\"$ref\":\"c\",\"$id\":1}", "{\"$ref\":\"c\",\"$id\":{\"$numberInt\":\"1\"}}"},
      {"{\"t\":{\"$timestamp\":{\"i\":4294967295,\"t\":0}}}",
       "{\"t\":{\"$timestamp\":{\"t\":0,\"i\":4294967295}}}"},
      {"{\"n\":{\"$numberDouble\":\"1.2345678921232E+18\"}}",
       "{\"n\":{\"$numberDouble\":\"1.2345678921232e+18\"}}"},
      {"{\"n\":[{\"$numberDouble\":\"NaN\"},{\"$numberDecimal\":\"-Infinity\"}]}",
       "{\"n\":[{\"$numberDouble\":\"NaN\"},{\"$numberDecimal\":\"-Infinity\"}]}"},
      {"{\"a\":[{\"$minKey\":1},{\"$maxKey\":1},{\"$undefined\":true},{\"$symbol\":\"s\"},{\"$numberLong\":"
       "\"1\"}]}",
       "{\"a\":[{\"$minKey\":1},{\"$maxKey\":1},{\"$undefined\":true},{\"$symbol\":\"s\"},{\"$numberLong\":"
       "\"1\"}]}"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    lumo_buf doc = {0}, out = {0};
    lumo_error error;
    size_t at;
    lumo_buf_append(&doc, "before", 6); /* the document is appended */
    if (!CHECK(parse(&doc, cases[i][0], strlen(cases[i][0]), &error)))
      fprintf(stderr, "  %s: %s\n", cases[i][0], error.message);
    CHECK(memcmp(doc.data, "before", 6) == 0 && lumo_bson_validate(doc.data + 6, doc.len - 6, &at));
    lumo_json_document(&out, doc.data + 6, doc.len - 6, false, LUMO_JSON_CANONICAL);
    CHECK_TEXT(out.data, out.len, cases[i][1]);
    lumo_buf_free(&doc);
    lumo_buf_free(&out);
  }
}

static void test_refused(void) {
  static const struct {
    const char *text;
    int at; /* the byte named in the message, counted from 1 */
  } cases[] = {
      {"", 1},
      {"  ", 3},
      {"[]", 1},
      {"1", 1},
      {"{", 2},
      {"{}{}", 3},
      {"{} x", 4},
      {"{\"a\"}", 5},
      {"{\"a\":}", 6},
      {"{\"a\":1,}", 8},
      {"{,}", 2},
      {"{\"a\":[1,]}", 9},
      {"{\"a\":[1 2]}", 9},
      {"{\"a\":1 \"b\":2}", 8},
      {"{a:1}", 2},
      {"{'a':1}", 2},
      {"{\"a\":01}", 6},
      {"{\"a\":-}", 6},
      {"{\"a\":+1}", 6},
      {"{\"a\":.5}", 6},
      {"{\"a\":1.}", 6},
      {"{\"a\":1e}", 6},
      {"{\"a\":1e400}", 6},
      {"{\"a\":NaN}", 6},
      {"{\"a\":nul}", 6},
      {"{\"a\":True}", 6},
      {"{\"a\":\"b}", 9},
      {"{\"a\":\"\n\"}", 7},
      {"{\"a\":\"\\x\"}", 7},
      {"{\"a\":\"\\u12g4\"}", 7},
      {"{\"a\":\"\\u12", 7},
      {"{\"a\":\"\\", 7},
      {"{\"a\":\"\\ud800\"}", 7},
      {"{\"a\":\"\\ud800\\u0041\"}", 7},
      {"{\"a\":\"\\ud800\\n\"}", 7},
      {"{\"a\":\"\\udc00\"}", 7},
      {"{\"a\":\"x\xff\"}", 7},
      {"{\"\xed\xa0\x80\":1}", 3},
      {"{\"a\\u0000\":1}", 4},
      {"\xef\xbb\xbf{}", 1},
      {"{\"a\":1} // c", 9},
      /* wrappers of the wrong shape */
      {"{\"$oid\":\"0102030405060708090a0b0c\"}", 1},
      {"{\"a\":{\"$oid\":\"0102030405060708090a0b0\"}}", 6},
      {"{\"a\":{\"$oid\":1}}", 6},
      {"{\"a\":{\"x\":1,\"$oid\":\"0102030405060708090a0b0c\"}}", 6},
      {"{\"a\":{\"$oid\":\"0102030405060708090a0b0c\",\"$oid\":\"0102030405060708090a0b0c\"}}", 6},
      {"{\"a\":{\"$regex\":\"x\",\"$oid\":\"0102030405060708090a0b0c\"}}", 6},
      {"{\"a\":{\"$numberInt\":\"2147483648\"}}", 6},
      {"{\"a\":{\"$numberInt\":\"1.0\"}}", 6},
      {"{\"a\":{\"$numberInt\":\"\"}}", 6},
      {"{\"a\":{\"$numberInt\":\"-\"}}", 6},
      {"{\"a\":{\"$numberInt\":\" 1\"}}", 6},
      {"{\"a\":{\"$numberInt\":1}}", 6},
      {"{\"a\":{\"$numberLong\":\"9223372036854775808\"}}", 6},
      {"{\"a\":{\"$numberLong\":\"1\\u0000\"}}", 6},
      {"{\"a\":{\"$numberDouble\":\"x\"}}", 6},
      {"{\"a\":{\"$numberDouble\":1.5}}", 6},
      {"{\"a\":{\"$numberDecimal\":\"1e\"}}", 6},
      {"{\"a\":{\"$date\":42}}", 6},
      {"{\"a\":{\"$date\":4294967296}}", 6},
      {"{\"a\":{\"$date\":{\"$numberInt\":\"1\"}}}", 6},
      {"{\"a\":{\"$date\":\"yesterday\"}}", 6},
      {"{\"a\":{\"$date\":{\"$numberLong\":\"1\"},\"x\":1}}", 6},
      {"{\"a\":{\"$timestamp\":{\"t\":-1,\"i\":1}}}", 6},
      {"{\"a\":{\"$timestamp\":{\"t\":4294967296,\"i\":1}}}", 6},
      {"{\"a\":{\"$timestamp\":{\"t\":1}}}", 6},
      {"{\"a\":{\"$timestamp\":{\"t\":1,\"i\":1.0}}}", 6},
      {"{\"a\":{\"$timestamp\":{\"t\":1,\"i\":1,\"x\":1}}}", 6},
      {"{\"a\":{\"$timestamp\":[1,2]}}", 6},
      {"{\"a\":{\"$minKey\":2}}", 6},
      {"{\"a\":{\"$maxKey\":{\"$numberInt\":\"1\"}}}", 6},
      {"{\"a\":{\"$undefined\":false}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"/w=\",\"subType\":\"00\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"/===\",\"subType\":\"00\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"/x==\",\"subType\":\"00\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"/w==/w==\",\"subType\":\"00\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"/-8=\",\"subType\":\"00\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"\",\"subType\":\"\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"\",\"subType\":\"0g\"}}}", 6},
      {"{\"a\":{\"$binary\":{\"base64\":\"\",\"subType\":\"000\"}}}", 6},
      {"{\"a\":{\"$binary\":\"\"}}", 6},
      {"{\"a\":{\"$binary\":\"\",\"$type\":0}}", 6},
      {"{\"a\":{\"$uuid\":\"73ffd26444b34c6990e8e7d1dfc035d4\"}}", 6},
      {"{\"a\":{\"$symbol\":1}}", 6},
      {"{\"a\":{\"$code\":1}}", 6},
      {"{\"a\":{\"$code\":\"\",\"$scope\":[]}}", 6},
      {"{\"a\":{\"$code\":\"\",\"$scope\":{},\"x\":1}}", 6},
      {"{\"a\":{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":\"x\"}}}", 6},
      {"{\"a\":{\"$regularExpression\":{\"pattern\":\"a\\u0000\",\"options\":\"\"}}}", 6},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    lumo_buf out = {0};
    lumo_error error;
    char place[32];
    lumo_buf_append(&out, "before", 6);
    if (!CHECK(!parse(&out, cases[i].text, strlen(cases[i].text), &error)))
      fprintf(stderr, "  %s\n", cases[i].text);
    snprintf(place, sizeof place, " at byte %d of", cases[i].at);
    if (!CHECK(strstr(error.message, place) != NULL))
      fprintf(stderr, "  %s: %s\n", cases[i].text, error.message);
    CHECK(error.code && strcmp(error.code, "E_ARGUMENT") == 0);
    CHECK(out.len == 6 && memcmp(out.data, "before", 6) == 0);
    lumo_buf_free(&out);
  }
}

/* Nothing that is cut off is taken for whole, and no cut is read beyond. */
static void test_cut(void) {
  static const char text[] =
      "{\"a\":[{\"$oid\":\"0102030405060708090a0b0c\"},\"\\ud83d\\ude00é\",-1.5e+3,true,null],"
      "\"b\":{\"$code\":\"x\",\"$scope\":{\"y\":{\"$numberLong\":\"5\"}}}}";
  lumo_buf out = {0};
  lumo_error error;
  CHECK(parse(&out, text, sizeof text - 1, &error));
  for (size_t cut = 0; cut < sizeof text - 1; cut++) {
    size_t before = out.len;
    CHECK(!parse(&out, text, cut, &error) && out.len == before);
  }
  lumo_buf_free(&out);
}

/* ---- limits ---- */

/* `depth` documents in each other, as JSON: parsed, and written and parsed once more. */
static bool nested(int depth, const char *opening, const char *closing, const char *innermost) {
  lumo_buf text = {0}, doc = {0}, again = {0};
  lumo_error error;
  for (int i = 1; i < depth; i++) lumo_buf_append(&text, opening, strlen(opening));
  lumo_buf_append(&text, innermost, strlen(innermost));
  for (int i = 1; i < depth; i++) lumo_buf_append(&text, closing, strlen(closing));
  bool good = parse(&doc, (char *)text.data, text.len, &error);
  if (good) {
    lumo_buf_clear(&text);
    lumo_json_document(&text, doc.data, doc.len, false, LUMO_JSON_CANONICAL);
    CHECK(parse(&again, (char *)text.data, text.len, &error));
    CHECK(again.len == doc.len && memcmp(again.data, doc.data, doc.len) == 0);
  } else {
    CHECK(strstr(error.message, "too deep") != NULL);
  }
  lumo_buf_free(&text);
  lumo_buf_free(&doc);
  lumo_buf_free(&again);
  return good;
}

static void test_depth(void) {
  static const char pointer[] =
      "{\"p\":{\"$dbPointer\":{\"$ref\":\"c\",\"$id\":{\"$oid\":\"0102030405060708090a0b0c\"}}}}";
  static const char scope[] = "{\"c\":{\"$code\":\"\",\"$scope\":";
  CHECK(nested(LUMO_BSON_MAX_DEPTH, "{\"a\":", "}", "{}"));
  CHECK(nested(LUMO_BSON_MAX_DEPTH, "{\"a\":", "}", pointer));
  CHECK(nested(LUMO_BSON_MAX_DEPTH, scope, "}}", pointer));
  CHECK(!nested(LUMO_BSON_MAX_DEPTH + 1, "{\"a\":", "}", "{}"));
  CHECK(!nested(LUMO_BSON_MAX_DEPTH + 1, "{\"a\":", "}", "{\"n\":{\"$numberInt\":\"1\"}}"));
  CHECK(!nested(LUMO_BSON_MAX_DEPTH + 1, scope, "}}", "{}"));
  CHECK(!nested(100000, "{\"a\":", "}", "{}"));
  CHECK(nested(LUMO_BSON_MAX_DEPTH - 1, "{\"a\":", "}", "{\"a\":[]}"));
  CHECK(!nested(LUMO_BSON_MAX_DEPTH - 1, "{\"a\":", "}", "{\"a\":[[]]}"));
}

static void test_out_of_memory(void) {
  static const char text[] =
      "{\"key\":{\"$binary\":{\"base64\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"subType\":\"00\"}"
      "},\"list\":["
      "{\"$code\":\"0123456789012345678901234567890123456789\",\"$scope\":{\"a\":[1,2,3,4,5,6,7,8]}},"
      "{\"$regex\":\"01234567890123456789012345678901234567890123456789\",\"$options\":\"i\"},"
      "{\"$symbol\":\"01234567890123456789012345678901234567890123456789\"}],\"last\":{\"$numberDecimal\":"
      "\"1\"}}";
  lumo_error error;
  unsigned long n;
  size_t at;
  for (n = 1;; n++) {
    lumo_buf doc = {0}, out = {0};
    lumo_error_init(&error);
    lumo_mem_fail_at(n);
    bool good = lumo_json_parse(&doc, text, sizeof text - 1, &error);
    if (good) lumo_json_document(&out, doc.data, doc.len, false, LUMO_JSON_CANONICAL);
    lumo_mem_fail_at(0);
    CHECK(good || (error.code && strcmp(error.code, "E_MEMORY") == 0 && doc.len == 0));
    CHECK(!good || lumo_bson_validate(doc.data, doc.len, &at));
    bool done = good && !out.failed;
    lumo_buf_free(&doc);
    lumo_buf_free(&out);
    if (done) break;
  }
  CHECK(n > 5);
}

int main(void) {
  test_modes();
  test_string();
  test_every_place();
  test_parse();
  test_refused();
  test_cut();
  test_depth();
  test_out_of_memory();
  return check_report();
}
