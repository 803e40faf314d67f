#include "text.h"

#include <bson/bson.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

/* ---- the system's randomness ---- */

static void random_bytes(uint8_t *out, size_t len) {
  if (getentropy(out, len) == 0) return;
  /* A sandbox may forbid the call, and nobody here can report an error: what differs between processes and
   * moments has to do. At most 32 bytes are ever asked for. */
  static atomic_uint calls;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t parts[4] = {(uint64_t)now.tv_sec, (uint64_t)now.tv_nsec,
                       (uint64_t)getpid() << 32 | atomic_fetch_add(&calls, 1), (uint64_t)(uintptr_t)&now};
  uint8_t digest[32];
  lumo_sha256((const uint8_t *)parts, sizeof parts, digest);
  memcpy(out, digest, len);
}

/* ---- hexadecimal ---- */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool hex_parse(const char *text, uint8_t *out, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

static void hex_text(const uint8_t *bytes, size_t count, char *out) {
  for (size_t i = 0; i < count; i++) {
    out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
    out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 0x0F];
  }
}

/* ---- ObjectId ---- */

/* The random part (5 bytes) of this process, above a bit that is always set; 0: it is to be drawn. A forked
 * child forgets its parent's: asking for the pid each time would cost a system call. */
static atomic_uint_least64_t objectid_process;
static atomic_uint_least32_t objectid_counter;

static void forget_process(void) {
  atomic_store(&objectid_process, 0);
}

static void watch_forks(void) {
  pthread_atfork(NULL, NULL, forget_process);
}

static uint64_t process_part(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  uint64_t process = atomic_load(&objectid_process), fresh;
  if (process) return process >> 24;
  pthread_once(&once, watch_forks);
  random_bytes((uint8_t *)&fresh, sizeof fresh);
  fresh |= 1;
  /* Of two threads the first one's choice stands. */
  if (!atomic_compare_exchange_strong(&objectid_process, &process, fresh)) fresh = process;
  return fresh >> 24;
}

void lumo_objectid_new(uint8_t id[12]) {
  uint64_t process = process_part();
  uint32_t now = (uint32_t)time(NULL);
  /* The counter's start differs from process to process, too, and follows from the random part. */
  uint32_t count = atomic_fetch_add(&objectid_counter, 1) + (uint32_t)(process * 0x9E3779B97F4A7C15u >> 40);
  for (int i = 0; i < 4; i++) id[i] = (uint8_t)(now >> (24 - 8 * i));
  for (int i = 0; i < 5; i++) id[4 + i] = (uint8_t)(process >> (32 - 8 * i));
  for (int i = 0; i < 3; i++) id[9 + i] = (uint8_t)(count >> (16 - 8 * i));
}

bool lumo_objectid_parse(const char *text, size_t len, uint8_t id[12]) {
  return len == 24 && hex_parse(text, id, 12);
}

void lumo_objectid_text(const uint8_t id[12], char out[25]) {
  hex_text(id, 12, out);
  out[24] = '\0';
}

/* ---- UUID ---- */

static const uint8_t uuid_groups[] = {4, 2, 2, 2, 6};

bool lumo_uuid_parse(const char *text, size_t len, uint8_t out[16]) {
  if (len == 32) return hex_parse(text, out, 16);
  if (len != 36) return false;
  for (size_t group = 0; group < sizeof uuid_groups; group++) {
    if (group > 0 && *text++ != '-') return false;
    if (!hex_parse(text, out, uuid_groups[group])) return false;
    text += 2 * uuid_groups[group];
    out += uuid_groups[group];
  }
  return true;
}

void lumo_uuid_text(const uint8_t uuid[16], char out[37]) {
  for (size_t group = 0; group < sizeof uuid_groups; group++) {
    if (group > 0) *out++ = '-';
    hex_text(uuid, uuid_groups[group], out);
    out += 2 * uuid_groups[group];
    uuid += uuid_groups[group];
  }
  *out = '\0';
}

void lumo_uuid_new(uint8_t out[16]) {
  random_bytes(out, 16);
  out[6] = (out[6] & 0x0F) | 0x40;
  out[8] = (out[8] & 0x3F) | 0x80;
}

/* ---- dates ---- */

#define DAY_MS 86400000

/* What is left of a text while it is read. */
typedef struct {
  const char *at, *end;
} cursor;

static bool take(cursor *c, char wanted) {
  if (c->at == c->end || *c->at != wanted) return false;
  c->at++;
  return true;
}

/* As many digits as there are, between `least` and `most`. */
static bool take_number(cursor *c, int least, int most, int64_t *out) {
  int count = 0;
  for (*out = 0; count < most && c->at < c->end && *c->at >= '0' && *c->at <= '9'; count++)
    *out = *out * 10 + (*c->at++ - '0');
  return count >= least;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar, and back. Years are counted from March, so that
 * the leap day is the last of its year, in eras of 400 years of 146,097 days. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day) {
  if (month <= 2) year--;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t year_of_era = year - era * 400;
  int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void date_from_days(int64_t days, int64_t *year, int *month, int *day) {
  days += 719468;
  int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  int64_t day_of_era = days - era * 146097;
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int shifted = (int)((5 * day_of_year + 2) / 153);
  *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
  *month = shifted < 10 ? shifted + 3 : shifted - 9;
  *year = year_of_era + era * 400 + (*month <= 2);
}

static int days_of_month(int64_t year, int64_t month) {
  static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return days[month - 1] + (month == 2 && leap);
}

/* yyyy-mm-dd, or ±yyyyyy-mm-dd (up to nine digits, which is more than 64 bits of milliseconds hold). */
static bool parse_days(cursor *c, int64_t *days) {
  int64_t year, month, day;
  bool minus = take(c, '-'), wide = minus || take(c, '+');
  if (!take_number(c, wide ? 6 : 4, wide ? 9 : 4, &year) || (minus && year == 0)) return false;
  if (minus) year = -year;
  if (!take(c, '-') || !take_number(c, 2, 2, &month) || !take(c, '-') || !take_number(c, 2, 2, &day))
    return false;
  if (month < 1 || month > 12 || day < 1 || day > days_of_month(year, month)) return false;
  *days = days_from_date(year, month, day);
  return true;
}

/* hh:mm, hh:mm:ss or hh:mm:ss.fraction */
static bool parse_time(cursor *c, int64_t *ms) {
  int64_t hour, minute, second = 0, thousandths = 0;
  if (!take_number(c, 2, 2, &hour) || !take(c, ':') || !take_number(c, 2, 2, &minute)) return false;
  if (take(c, ':')) {
    if (!take_number(c, 2, 2, &second)) return false;
    if (take(c, '.')) {
      const char *first = c->at;
      if (!take_number(c, 1, 3, &thousandths)) return false;
      for (int64_t count = c->at - first; count < 3; count++) thousandths *= 10;
      while (take(c, '0')) continue; /* what a millisecond cannot hold must be nothing */
    }
  }
  *ms = ((hour * 60 + minute) * 60 + second) * 1000 + thousandths;
  return hour < 24 && minute < 60 && second < 60;
}

/* Z, ±hh, ±hh:mm, ±hhmm or nothing */
static bool parse_offset(cursor *c, int64_t *ms) {
  int64_t hour, minute = 0;
  *ms = 0;
  if (c->at == c->end || take(c, 'Z')) return true;
  bool minus = take(c, '-');
  if (!minus && !take(c, '+')) return false;
  if (!take_number(c, 2, 2, &hour)) return false;
  if (c->at < c->end) {
    take(c, ':');
    if (!take_number(c, 2, 2, &minute)) return false;
  }
  *ms = (hour * 60 + minute) * (minus ? -60000 : 60000);
  return hour < 24 && minute < 60;
}

bool lumo_date_parse(const char *text, size_t len, int64_t *ms) {
  cursor c = {text, text + len};
  int64_t days, time = 0, offset = 0, total;
  if (!parse_days(&c, &days)) return false;
  if (c.at < c.end) {
    if (!take(&c, 'T') && !take(&c, ' ')) return false;
    if (!parse_time(&c, &time) || !parse_offset(&c, &offset)) return false;
  }
  /* One day less, and the day added at last: the earliest moment lies within a day whose start cannot be
   * told. */
  if (c.at != c.end || __builtin_mul_overflow(days + (days < 0), (int64_t)DAY_MS, &total)) return false;
  time -= offset + (days < 0 ? DAY_MS : 0);
  if (__builtin_add_overflow(total, time, &total)) return false;
  *ms = total;
  return true;
}

/* Writes a number of so many digits, and what follows it. */
static inline char *put_digits(char *p, uint64_t number, int digits, char next) {
  for (int i = digits; i-- > 0; number /= 10) p[i] = (char)('0' + number % 10);
  p[digits] = next;
  return p + digits + 1;
}

size_t lumo_date_text(int64_t ms, char out[40]) {
  int64_t days = ms / DAY_MS, time = ms % DAY_MS, year;
  int month, day;
  char *p = out;
  if (time < 0) {
    time += DAY_MS;
    days--;
  }
  date_from_days(days, &year, &month, &day);
  if (year < 0 || year > 9999)
    p += snprintf(p, 24, "%+07lld-", (long long)year);
  else
    p = put_digits(p, (uint64_t)year, 4, '-');
  uint64_t clock = (uint64_t)time;
  p = put_digits(p, (uint64_t)month, 2, '-');
  p = put_digits(p, (uint64_t)day, 2, 'T');
  p = put_digits(p, clock / 3600000, 2, ':');
  p = put_digits(p, clock / 60000 % 60, 2, ':');
  p = put_digits(p, clock / 1000 % 60, 2, '.');
  p = put_digits(p, clock % 1000, 3, 'Z');
  *p = '\0';
  return (size_t)(p - out);
}

/* ---- numbers as digits ---- */

/* A decimal number taken apart: ± the integer that the digits make × 10^exponent, without leading zeros; zero
 * has no digits. 800 digits round every double rightly if it is known whether something other than zeros
 * follows. */
typedef struct {
  bool negative, more; /* more: what did not fit was not only zeros */
  int count;
  int64_t exponent;
  char digits[800];
} number;

static void add_digit(number *n, char digit, bool fraction) {
  bool fits = n->count < (int)sizeof n->digits;
  if (n->count == 0 && digit == '0')
    n->exponent -= fraction;
  else if (!fits) {
    n->more |= digit != '0';
    n->exponent += !fraction;
  } else {
    n->digits[n->count++] = digit;
    n->exponent -= fraction;
  }
}

/* What follows the "e". Exponents that are far out of any range are all alike. */
static bool scan_exponent(cursor *c, number *n) {
  int64_t exponent = 0;
  bool minus = take(c, '-');
  if (!minus) take(c, '+');
  if (c->at == c->end) return false;
  for (; c->at < c->end; c->at++) {
    if (*c->at < '0' || *c->at > '9') return false;
    if (exponent < INT32_MAX) exponent = exponent * 10 + (*c->at - '0');
  }
  n->exponent += minus ? -exponent : exponent;
  return true;
}

/* [+-] digits [. digits] [e [+-] digits], with one digit at least and nothing else. */
static bool scan_number(cursor *c, number *n) {
  bool any = false, fraction = false;
  n->more = false;
  n->count = 0;
  n->exponent = 0;
  for (; c->at < c->end; c->at++) {
    char ch = *c->at;
    if (ch == '.' && !fraction) {
      fraction = true;
    } else if (ch >= '0' && ch <= '9') {
      add_digit(n, ch, fraction);
      any = true;
    } else {
      break;
    }
  }
  if (!any) return false;
  if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
    c->at++;
    return scan_exponent(c, n);
  }
  return c->at == c->end;
}

static bool take_sign(cursor *c) {
  bool minus = take(c, '-');
  if (!minus) take(c, '+');
  return minus;
}

static bool is_word(const cursor *c, const char *lower) {
  size_t len = strlen(lower);
  if ((size_t)(c->end - c->at) != len) return false;
  for (size_t i = 0; i < len; i++)
    if ((c->at[i] | 0x20) != lower[i]) return false;
  return true;
}

/* ---- double ---- */

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The nearest double of digits × 10^exponent. */
static double double_from_digits(const char *digits, int count, bool more, int64_t exponent) {
  if (count == 0) return 0;
  if (count <= 15 && exponent >= -22 && exponent <= 22) {
    /* Both numbers are doubles without loss, so one operation rounds once. */
    int64_t whole = 0;
    for (int i = 0; i < count; i++) whole = whole * 10 + (digits[i] - '0');
    return exponent < 0 ? (double)whole / powers_of_ten[-exponent] : (double)whole * powers_of_ten[exponent];
  }
  char text[sizeof((number *)0)->digits +
            16]; /* an integer with an exponent: no locale writes that otherwise */
  memcpy(text, digits, (size_t)count);
  if (more) {
    text[count++] = '1';
    exponent--;
  }
  /* Nothing is lost by the bounds: there are at most 801 digits. */
  int bounded = exponent > 9999 ? 9999 : exponent < -9999 ? -9999 : (int)exponent;
  snprintf(text + count, sizeof text - (size_t)count, "e%d", bounded);
  return strtod(text, NULL);
}

bool lumo_double_parse(const char *text, size_t len, double *v) {
  cursor c = {text, text + len};
  number n;
  n.negative = take_sign(&c);
  if (is_word(&c, "infinity"))
    *v = INFINITY;
  else if (is_word(&c, "nan"))
    *v = NAN;
  else if (!scan_number(&c, &n))
    return false;
  else {
    *v = double_from_digits(n.digits, n.count, n.more, n.exponent);
    if (isinf(*v)) return false;
  }
  if (n.negative) *v = -*v;
  return true;
}

/* The digits of a double: d.ddd… × 10^exponent, at most 17. */
typedef struct {
  char digits[18];
  int count, exponent;
} shortest;

/* Where up to 15 digits and a small power of ten say it, which is nearly always. */
static bool digits_by_division(double v, shortest *out) {
  for (int places = 0; places <= 22; places++) {
    double scaled = v * powers_of_ten[places];
    if (scaled >= 1e15) return false;
    uint64_t whole = (uint64_t)(scaled + 0.5);
    if ((double)whole / powers_of_ten[places] != v) continue;
    out->count = 1;
    for (uint64_t rest = whole; rest >= 10; rest /= 10) out->count++;
    put_digits(out->digits, whole, out->count, '\0');
    out->exponent = out->count - 1 - places;
    return true;
  }
  return false;
}

static bool reads_back(const shortest *s, double v) {
  return double_from_digits(s->digits, s->count, false, s->exponent - s->count + 1) == v;
}

/* The next decimal of the same length. */
static void digits_up(shortest *s) {
  int i = s->count - 1;
  for (; i >= 0 && s->digits[i] == '9'; i--) s->digits[i] = '0';
  if (i >= 0) {
    s->digits[i]++;
  } else {
    s->digits[0] = '1';
    s->exponent++;
  }
}

/* The C library's correctly rounded digits, as few as read back. Below a power of two doubles lie closer than
 * above, so there the nearest decimal may fail and the next one up may not. */
static void digits_by_trial(double v, shortest *out) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  bool power_of_two = (bits & 0xFFFFFFFFFFFFFu) == 0;
  for (int precision = v < 2.2250738585072014e-308 ? 1 : 15; precision <= 17; precision++) {
    char text[40], *p = text;
    snprintf(text, sizeof text, "%.*e", precision - 1, v);
    for (out->count = 0; *p != 'e'; p++) /* what stands between the digits is the locale's point */
      if (*p >= '0' && *p <= '9') out->digits[out->count++] = *p;
    out->exponent = atoi(p + 1);
    if (reads_back(out, v)) return;
    if (!power_of_two) continue;
    digits_up(out);
    if (reads_back(out, v)) return;
  }
}

size_t lumo_double_text(double v, char out[32]) {
  if (isnan(v)) return (size_t)snprintf(out, 32, "NaN");
  if (isinf(v)) return (size_t)snprintf(out, 32, v < 0 ? "-Infinity" : "Infinity");
  const char *sign = signbit(v) ? "-" : "";
  shortest s;
  v = fabs(v);
  if (!digits_by_division(v, &s)) digits_by_trial(v, &s);
  while (s.count > 1 && s.digits[s.count - 1] == '0') s.count--;
  int whole = s.exponent + 1; /* digits before the point */
  if (s.exponent < -4 || s.exponent >= 16)
    return (size_t)snprintf(out, 32, "%s%c%s%.*se%+03d", sign, s.digits[0], s.count > 1 ? "." : "",
                            s.count - 1, s.digits + 1, s.exponent);
  char *p = out;
  if (*sign) *p++ = '-';
  if (whole <= 0) *p++ = '0';
  for (int i = 0; i < whole; i++) *p++ = i < s.count ? s.digits[i] : '0';
  *p++ = '.';
  for (int i = whole; i < 0; i++) *p++ = '0';
  for (int i = whole > 0 ? whole : 0; i < s.count; i++) *p++ = s.digits[i];
  if (whole >= s.count) *p++ = '0';
  *p = '\0';
  return (size_t)(p - out);
}

/* ---- decimal128 ---- */

static void decimal_store(const bson_decimal128_t *decimal, uint8_t out[16]) {
  for (int i = 0; i < 8; i++) {
    out[i] = (uint8_t)(decimal->low >> (8 * i));
    out[8 + i] = (uint8_t)(decimal->high >> (8 * i));
  }
}

/* libbson reads digits beyond the 34th, blanks and the text's end more freely than can be allowed here, so it
 * gets the number in a plain form: sign, at most 34 digits, exponent. */
static bool decimal_from_number(number *n, bson_decimal128_t *out) {
  char text[64];
  for (; n->count > 34 && n->digits[n->count - 1] == '0'; n->count--) n->exponent++;
  if (n->count > 34 || n->more) return false;
  int exponent = n->exponent > 99999 ? 99999 : n->exponent < -99999 ? -99999 : (int)n->exponent;
  int len = n->count ? n->count : 1;
  snprintf(text, sizeof text, "%s%.*sE%d", n->negative ? "-" : "", len, n->count ? n->digits : "0", exponent);
  return bson_decimal128_from_string(text, out);
}

bool lumo_decimal_parse(const char *text, size_t len, uint8_t out[16]) {
  cursor c = {text, text + len};
  bson_decimal128_t decimal;
  number n;
  n.negative = take_sign(&c);
  uint64_t sign = n.negative ? 0x8000000000000000u : 0;
  if (is_word(&c, "inf") || is_word(&c, "infinity"))
    decimal = (bson_decimal128_t){0, sign | 0x7800000000000000u};
  else if (is_word(&c, "nan"))
    decimal = (bson_decimal128_t){0, 0x7C00000000000000u};
  else if (!scan_number(&c, &n) || !decimal_from_number(&n, &decimal))
    return false;
  decimal_store(&decimal, out);
  return true;
}

size_t lumo_decimal_text(const uint8_t decimal[16], char out[48]) {
  bson_decimal128_t value = {0, 0};
  for (int i = 7; i >= 0; i--) {
    value.low = value.low << 8 | decimal[i];
    value.high = value.high << 8 | decimal[8 + i];
  }
  /* A coefficient of 10^34 or more counts as zero in IEEE 754 and on the server; libbson would print it. */
  uint64_t coefficient = value.high & 0x1FFFFFFFFFFFFu;
  bool finite_form = (value.high >> 61 & 3) != 3;
  if (finite_form && (coefficient > 0x1ED09BEAD87C0u ||
                      (coefficient == 0x1ED09BEAD87C0u && value.low > 0x378D8E63FFFFFFFFu))) {
    value.high &= ~(uint64_t)0x1FFFFFFFFFFFFu;
    value.low = 0;
  }
  bson_decimal128_to_string(&value, out);
  return strlen(out);
}
