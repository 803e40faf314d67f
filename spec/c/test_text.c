/* ObjectId, date, UUID, decimal128 and double as texts, and SHA-256. */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/sha256.h"
#include "core/text.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A copy of exactly the text's bytes, without NUL: parsers must not look for one. Freed with free. */
static char *bare(const char *text) {
  size_t len = strlen(text);
  char *copy = malloc(len ? len : 1);
  memcpy(copy, text, len);
  return copy;
}

/* ---- ObjectId ---- */

enum { THREADS = 4, PER_THREAD = 20000 };
static uint8_t ids[THREADS * PER_THREAD][12];

static void *make_ids(void *first) {
  for (int i = 0; i < PER_THREAD; i++) lumo_objectid_new(((uint8_t(*)[12])first)[i]);
  return NULL;
}

static int by_bytes(const void *a, const void *b) {
  return memcmp(a, b, 12);
}

static void test_objectid_unique(void) {
  pthread_t threads[THREADS];
  time_t before = time(NULL);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, make_ids, ids[i * PER_THREAD]);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  time_t after = time(NULL);
  int wrong = 0;
  for (int i = 0; i < THREADS * PER_THREAD; i++) {
    time_t made = (time_t)((uint32_t)ids[i][0] << 24 | ids[i][1] << 16 | ids[i][2] << 8 | ids[i][3]);
    wrong += made < before || made > after || memcmp(ids[i] + 4, ids[0] + 4, 5) != 0;
  }
  CHECK_INT(wrong, 0);
  qsort(ids, THREADS * PER_THREAD, 12, by_bytes);
  for (int i = 1; i < THREADS * PER_THREAD; i++) wrong += memcmp(ids[i - 1], ids[i], 12) == 0;
  CHECK_INT(wrong, 0);
}

static void test_objectid_fork(void) {
  uint8_t mine[12], child[2][12];
  int pipes[2];
  lumo_objectid_new(mine);
  CHECK(pipe(pipes) == 0);
  for (int i = 0; i < 2; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      uint8_t id[12];
      lumo_objectid_new(id);
      _exit(write(pipes[1], id, 12) != 12);
    }
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK_INT(read(pipes[0], child[i], 12), 12);
  }
  CHECK(memcmp(mine + 4, child[0] + 4, 5) != 0);
  CHECK(memcmp(child[0] + 4, child[1] + 4, 5) != 0);
  close(pipes[0]);
  close(pipes[1]);
}

static void test_objectid_text(void) {
  static const char *const bad[] = {"",
                                    "0123456789abcdef0123456",
                                    "0123456789abcdef012345678",
                                    "0123456789abcdef0123456g",
                                    "0123456789abcdef 1234567",
                                    "0x23456789abcdef01234567"};
  uint8_t id[12];
  char text[25];
  CHECK(lumo_objectid_parse("0123456789ABCdefFEDCba98", 24, id));
  CHECK_HEX(id, 12, "0123456789abcdeffedcba98");
  lumo_objectid_text(id, text);
  CHECK_TEXT(text, strlen(text), "0123456789abcdeffedcba98");
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = bare(bad[i]);
    CHECK(!lumo_objectid_parse(copy, strlen(bad[i]), id));
    free(copy);
  }
}

/* ---- dates ---- */

static void test_date_parse(void) {
  static const struct {
    const char *text;
    int64_t ms;
  } good[] = {
      {"1970-01-01", 0},
      {"2024-05-06", 1714953600000},
      {"2024-05-06T07:08Z", 1714979280000},
      {"2024-05-06 07:08", 1714979280000},
      {"2024-05-06T07:08:09", 1714979289000},
      {"2024-05-06T07:08:09.1", 1714979289100},
      {"2024-05-06T07:08:09.12Z", 1714979289120},
      {"2024-05-06T07:08:09.1230000000000000000Z", 1714979289123},
      {"2024-05-06T07:08:09.120000+02", 1714972089120},
      {"2024-05-06T07:08:09+02", 1714972089000},
      {"2024-05-06T07:08:09+02:30", 1714970289000},
      {"2024-05-06T07:08:09.5-0230", 1714988289500},
      {"2024-02-29", 1709164800000},
      {"2000-02-29", 951782400000},
      {"1969-12-31T23:59:59.999Z", -1},
      {"1900-03-01", -2203891200000},
      {"0000-01-01", -62167219200000},
      {"9999-12-31T23:59:59.999Z", 253402300799999},
      {"+010000-01-01", 253402300800000},
      {"-000001-12-31", -62167305600000},
      {"+292278994-08-17T07:12:55.807Z", INT64_MAX},
      {"-292275055-05-16T16:47:04.192Z", INT64_MIN},
  };
  static const char *const bad[] = {"",
                                    "2024",
                                    "2024-05",
                                    "2024-5-6",
                                    "20240506",
                                    "2024-05-06T",
                                    "2024-05-06T07",
                                    "2024-05-06t07:08",
                                    "2024-05-06T07:08z",
                                    "2023-02-29",
                                    "1900-02-29",
                                    "2024-02-30",
                                    "2024-04-31",
                                    "2024-13-01",
                                    "2024-00-01",
                                    "2024-01-00",
                                    "2024-01-32",
                                    "2024-05-06T24:00",
                                    "2024-05-06T07:60",
                                    "2024-05-06T07:08:60",
                                    "2024-05-06T07:08:9",
                                    "2024-05-06T07:08:09.",
                                    "2024-05-06T07:08:09,5",
                                    "2024-05-06T07:08:09.5x",
                                    "2024-05-06T07:08:09.1234Z",
                                    "2024-05-06T07:08:09.12300001Z",
                                    "2023-12-31T23:59:59.9999Z",
                                    "2024-05-06T07:08ZZ",
                                    "2024-05-06T07:08+",
                                    "2024-05-06T07:08+1",
                                    "2024-05-06T07:08+01:",
                                    "2024-05-06T07:08+01:6",
                                    "2024-05-06T07:08+01:60",
                                    "2024-05-06T07:08+24",
                                    "2024-05-06Z",
                                    " 2024-05-06",
                                    "2024-05-06 ",
                                    "-000000-01-01",
                                    "+2024-01-01",
                                    "+292278994-08-17T07:12:55.808Z",
                                    "-292275055-05-16T16:47:04.191Z",
                                    "+999999999-12-31",
                                    "2024-05-06T07:08:09.123Z0",
                                    "now"};
  int64_t ms;
  for (size_t i = 0; i < COUNT(good); i++) {
    char *copy = bare(good[i].text);
    ms = 42;
    if (!CHECK(lumo_date_parse(copy, strlen(good[i].text), &ms))) fprintf(stderr, "  %s\n", good[i].text);
    CHECK_INT(ms, good[i].ms);
    free(copy);
  }
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = bare(bad[i]);
    if (!CHECK(!lumo_date_parse(copy, strlen(bad[i]), &ms))) fprintf(stderr, "  %s\n", bad[i]);
    free(copy);
  }
}

static void test_date_text(void) {
  static const struct {
    int64_t ms;
    const char *text;
  } cases[] = {
      {0, "1970-01-01T00:00:00.000Z"},
      {-1, "1969-12-31T23:59:59.999Z"},
      {1714979289123, "2024-05-06T07:08:09.123Z"},
      {-62167219200000, "0000-01-01T00:00:00.000Z"},
      {-62167219200001, "-000001-12-31T23:59:59.999Z"},
      {253402300799999, "9999-12-31T23:59:59.999Z"},
      {253402300800000, "+010000-01-01T00:00:00.000Z"},
      {INT64_MAX, "+292278994-08-17T07:12:55.807Z"},
      {INT64_MIN, "-292275055-05-16T16:47:04.192Z"},
  };
  char out[40];
  int64_t back;
  for (size_t i = 0; i < COUNT(cases); i++) CHECK_TEXT(out, lumo_date_text(cases[i].ms, out), cases[i].text);
  /* The C library's calendar knows the same days. */
  int wrong = 0;
  for (int64_t day = -60000; day < 60000; day += 7) {
    time_t seconds = (time_t)(day * 86400 + 12345);
    struct tm tm;
    char expected[40];
    gmtime_r(&seconds, &tm);
    strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.678Z", &tm);
    size_t len = lumo_date_text((int64_t)seconds * 1000 + 678, out);
    wrong += strcmp(out, expected) != 0 || !lumo_date_parse(out, len, &back) ||
             back != (int64_t)seconds * 1000 + 678;
  }
  CHECK_INT(wrong, 0);
}

/* ---- UUID ---- */

static void test_uuid(void) {
  static const char *const bad[] = {"",
                                    "73ffd264-44b3-90e8-e7d1dfc035d4",
                                    "73ff-d26444b-34c6-990e8e-7d1dfc035d4",
                                    "73ffd264-44b3-4c69-90e8-e7d1dfc035d4-",
                                    "----d264-44b3-4--9-90e8-e7d1dfc0----",
                                    "73ffd26444b34c6990e8e7d1dfc035d",
                                    "73ffd26444b34c6990e8e7d1dfc035dg",
                                    "73ffd264-44b34c69-90e8-e7d1dfc035d4-"};
  uint8_t uuid[16], other[16];
  char text[37];
  CHECK(lumo_uuid_parse("73FFD264-44b3-4c69-90e8-e7d1dfc035d4", 36, uuid));
  CHECK_HEX(uuid, 16, "73ffd26444b34c6990e8e7d1dfc035d4");
  CHECK(lumo_uuid_parse("73ffd26444b34c6990e8e7d1dfc035d4", 32, other) && memcmp(uuid, other, 16) == 0);
  lumo_uuid_text(uuid, text);
  CHECK_TEXT(text, strlen(text), "73ffd264-44b3-4c69-90e8-e7d1dfc035d4");
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = bare(bad[i]);
    CHECK(!lumo_uuid_parse(copy, strlen(bad[i]), uuid));
    free(copy);
  }
  lumo_uuid_new(uuid);
  lumo_uuid_new(other);
  CHECK(memcmp(uuid, other, 16) != 0);
  CHECK(uuid[6] >> 4 == 4 && uuid[8] >> 6 == 2);
}

/* ---- decimal128 ---- */

static void test_decimal(void) {
  static const struct {
    const char *text, *hex, *canonical;
  } good[] = {
      {"0", "00000000000000000000000000004030", "0"},
      {"-0", "000000000000000000000000000040b0", "-0"},
      {"+1", "01000000000000000000000000004030", "1"},
      {"000001.10", "6e000000000000000000000000003c30", "1.10"},
      {".5", "05000000000000000000000000003e30", "0.5"},
      {"5.", "05000000000000000000000000004030", "5"},
      {"1e3", "01000000000000000000000000004630", "1E+3"},
      {"1E-6176", "01000000000000000000000000000000", "1E-6176"},
      {"9.999999999999999999999999999999999E+6144", "ffffffff638e8d37c087adbe09edff5f",
       "9.999999999999999999999999999999999E+6144"},
      {"1234567890123456789012345678901234", "f2af967ed05c82de3297ff6fde3c4030",
       "1234567890123456789012345678901234"},
      {"12345678901234567890123456789012340000", "f2af967ed05c82de3297ff6fde3c4830",
       "1.234567890123456789012345678901234E+37"},
      {"1e6144", "000000000a5bc138938d44c64d31fe5f", "1.000000000000000000000000000000000E+6144"},
      {"0e999999999999999999999", "0000000000000000000000000000fe5f", "0E+6111"},
      {"0e-99999999999999999999", "00000000000000000000000000000000", "0E-6176"},
      {"10e-6177", "01000000000000000000000000000000", "1E-6176"},
      {"NaN", "0000000000000000000000000000007c", "NaN"},
      {"-nan", "0000000000000000000000000000007c", "NaN"},
      {"Infinity", "00000000000000000000000000000078", "Infinity"},
      {"-INF", "000000000000000000000000000000f8", "-Infinity"},
  };
  static const char *const bad[] = {"",
                                    ".",
                                    "+",
                                    "-",
                                    "e5",
                                    "1e",
                                    "1e+",
                                    "1e5.",
                                    "1..2",
                                    "1.2.3",
                                    "--1",
                                    "1-",
                                    "1 ",
                                    " 1",
                                    "1e 5",
                                    "1e0x10",
                                    "0x10",
                                    "1_000",
                                    "1,5",
                                    "Infinit",
                                    "NaNq",
                                    "snan",
                                    "inf inity",
                                    "1e6145",
                                    "12e-6177",
                                    "1.0000000000000000000000000000000001",
                                    "12345678901234567890123456789012345",
                                    "1e99999999999999999999"};
  uint8_t out[16];
  char text[48];
  for (size_t i = 0; i < COUNT(good); i++) {
    char *copy = bare(good[i].text);
    if (!CHECK(lumo_decimal_parse(copy, strlen(good[i].text), out))) fprintf(stderr, "  %s\n", good[i].text);
    CHECK_HEX(out, 16, good[i].hex);
    CHECK_TEXT(text, lumo_decimal_text(out, text), good[i].canonical);
    free(copy);
  }
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = bare(bad[i]);
    if (!CHECK(!lumo_decimal_parse(copy, strlen(bad[i]), out))) fprintf(stderr, "  %s\n", bad[i]);
    free(copy);
  }
  CHECK(!lumo_decimal_parse("1\0", 2, out));
  /* Zeros do not count as digits however many there are. */
  char *long_text = malloc(5000);
  memset(long_text, '0', 5000);
  long_text[2000] = '7';
  long_text[2001] = '.';
  CHECK(lumo_decimal_parse(long_text, 5000, out));
  CHECK_TEXT(text, lumo_decimal_text(out, text), "7.000000000000000000000000000000000");
  long_text[4999] = '1';
  CHECK(!lumo_decimal_parse(long_text, 5000, out));
  free(long_text);
  /* A coefficient of 10^34 has a digit more than IEEE 754 allows: it counts as zero. One less is the largest.
   * */
  size_t len;
  uint8_t *odd = check_bytes("00000000648e8d37c087adbe09ed4130", &len);
  CHECK_TEXT(text, lumo_decimal_text(odd, text), "0");
  memset(odd, 0xff, 4);
  odd[4] = 0x63;
  CHECK_TEXT(text, lumo_decimal_text(odd, text), "9999999999999999999999999999999999");
  free(odd);
}

/* ---- doubles ---- */

static void test_double(void) {
  static const struct {
    double v;
    const char *text;
  } cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {-1.5, "-1.5"},
      {0.1, "0.1"},
      {0.1 + 0.2, "0.30000000000000004"},
      {100.0, "100.0"},
      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},
      {1.5e300, "1.5e+300"},
      {1e-4, "0.0001"},
      {1e-5, "1e-05"},
      {123456.789, "123456.789"},
      {1e22, "1e+22"},
      {1e23, "1e+23"},
      {5e-324, "5e-324"},
      {2.2250738585072014e-308, "2.2250738585072014e-308"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {9007199254740993.0, "9007199254740992.0"},
      {1.2345678921232E+18, "1.2345678921232e+18"},
      {5.684341886080802e-14, "5.684341886080802e-14"},
      {9.5367431640625e-07, "9.5367431640625e-07"},
      {1.0 / 3, "0.3333333333333333"},
      {4294967295.5, "4294967295.5"},
      {NAN, "NaN"},
      {INFINITY, "Infinity"},
      {-INFINITY, "-Infinity"},
  };
  char out[32];
  for (size_t i = 0; i < COUNT(cases); i++) {
    double back = 42;
    size_t len = lumo_double_text(cases[i].v, out);
    CHECK_TEXT(out, len, cases[i].text);
    CHECK(lumo_double_parse(out, len, &back));
    CHECK(isnan(cases[i].v) ? isnan(back) : memcmp(&back, &cases[i].v, sizeof back) == 0);
  }
}

/* Any bits: the text reads back as the same number, here and in the C library, and one digit less would not.
 * */
static void test_double_shortest(void) {
  uint64_t bits = 1;
  int lossy = 0, long_winded = 0;
  for (int i = 0; i < 50000; i++) {
    double v, back;
    char out[32], fewer[40];
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    memcpy(&v, &bits, sizeof v);
    if (!isfinite(v)) continue;
    size_t len = lumo_double_text(v, out);
    lossy += !lumo_double_parse(out, len, &back) || back != v || strtod(out, NULL) != v;
    int digits = 0;
    for (const char *p = out; *p && *p != 'e'; p++) digits += *p >= '0' && *p <= '9' && (digits || *p != '0');
    if (!strchr(out, 'e')) /* 1200.0 has two digits */
      for (const char *p = out + len; strchr(".0", *--p);) digits -= *p == '0';
    snprintf(fewer, sizeof fewer, "%.*e", digits > 1 ? digits - 2 : 0, v);
    long_winded += digits > 1 && strtod(fewer, NULL) == v;
  }
  CHECK_INT(lossy, 0);
  CHECK_INT(long_winded, 0);
}

static void test_double_parse(void) {
  static const struct {
    const char *text;
    double v;
  } good[] = {
      {"1", 1},
      {"-1.", -1},
      {".5", 0.5},
      {"+2.50e1", 25},
      {"1E-400", 0},
      {"0e999999999999999999", 0},
      {"-inFinity", -INFINITY},
      {"9007199254740993", 9007199254740992.0},
      {"9007199254740993.0000000000000000000000000000000001", 9007199254740994.0},
      {"1.2345678921232E+18", 1.2345678921232E+18},
      {"00012", 12},
      {"123456789012345678901234567890", 123456789012345678901234567890.0},
  };
  static const char *const bad[] = {
      "",      ".",  "-",    "e5",  "1e",  "1e+",  "1..2",  "--1",
      " 1",    "1 ", "0x10", "1,5", "inf", "nanx", "1e400", "1e999999999999999999999",
      "1e5.0", "1f"};
  double v;
  for (size_t i = 0; i < COUNT(good); i++) {
    char *copy = bare(good[i].text);
    if (!CHECK(lumo_double_parse(copy, strlen(good[i].text), &v) && v == good[i].v))
      fprintf(stderr, "  %s\n", good[i].text);
    free(copy);
  }
  for (size_t i = 0; i < COUNT(bad); i++) {
    char *copy = bare(bad[i]);
    if (!CHECK(!lumo_double_parse(copy, strlen(bad[i]), &v))) fprintf(stderr, "  %s\n", bad[i]);
    free(copy);
  }
  /* More digits than are kept, with the one that decides at the very end. */
  char text[2000];
  memset(text, '0', sizeof text);
  memcpy(text, "9007199254740993.", 17);
  CHECK(lumo_double_parse(text, sizeof text, &v) && v == 9007199254740992.0);
  text[sizeof text - 1] = '1';
  CHECK(lumo_double_parse(text, sizeof text, &v) && v == 9007199254740994.0);
}

/* ---- SHA-256 ---- */

static void test_sha256(void) {
  static const char million[1000000];
  uint8_t out[32];
  char *copy = malloc(sizeof million);
  lumo_sha256((const uint8_t *)"", 0, out);
  CHECK_HEX(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  lumo_sha256((const uint8_t *)"abc", 3, out);
  CHECK_HEX(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  lumo_sha256((const uint8_t *)"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, out);
  CHECK_HEX(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  memset(copy, 'a', sizeof million);
  lumo_sha256((const uint8_t *)copy, sizeof million, out);
  CHECK_HEX(out, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  /* Either side of where the padding takes another block. */
  lumo_sha256((const uint8_t *)copy, 55, out);
  CHECK_HEX(out, 32, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  lumo_sha256((const uint8_t *)copy, 64, out);
  CHECK_HEX(out, 32, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
  free(copy);
}

int main(void) {
  test_objectid_unique();
  test_objectid_fork();
  test_objectid_text();
  test_date_parse();
  test_date_text();
  test_uuid();
  test_decimal();
  test_double();
  test_double_shortest();
  test_double_parse();
  /* A locale that writes a comma, where the machine has one, must change nothing. */
  if (setlocale(LC_ALL, "de_DE.UTF-8") || setlocale(LC_ALL, "de_DE.utf8")) {
    test_double();
    test_double_parse();
    test_decimal();
  }
  test_sha256();
  return check_report();
}
