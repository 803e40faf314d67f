/* Values and their texts: ObjectId, date, UUID, decimal128 and double, both ways. libbson does decimal128; it
 * is the one place of the core besides objectid.c that calls it. Parsers take a length, need no NUL and
 * accept nothing after the text. */
#ifndef LUMO_CORE_TEXT_H
#define LUMO_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new ObjectId: time, a random part per process (renewed after a fork), a counter. Thread safe. */
void lumo_objectid_new(uint8_t id[12]);
bool lumo_objectid_parse(const char *text, size_t len, uint8_t id[12]); /* 24 hex digits, either case */
void lumo_objectid_text(const uint8_t id[12], char out[25]);            /* lower case */

/* ISO 8601: "2024-05-06", "2024-05-06T07:08Z", seconds, a fraction of any length (zeros beyond the
 * millisecond), offset Z, ±hh, ±hh:mm or ±hhmm; a blank may stand for the T; without an offset it is UTC.
 * False for anything else, days that do not exist and fractions of a millisecond included. */
bool lumo_date_parse(const char *text, size_t len, int64_t *ms);
/* "2024-05-06T07:08:09.123Z" (".000" kept); years beyond 0000–9999 as ±yyyyyy. Returns the length. */
size_t lumo_date_text(int64_t ms, char out[40]);

bool lumo_uuid_parse(const char *text, size_t len, uint8_t out[16]); /* with or without its four dashes */
void lumo_uuid_text(const uint8_t uuid[16], char out[37]);
void lumo_uuid_new(uint8_t out[16]); /* version 4, from the system's random source */

bool lumo_decimal_parse(const char *text, size_t len, uint8_t out[16]); /* little-endian, as in BSON */
size_t lumo_decimal_text(const uint8_t decimal[16], char out[48]);

/* The shortest text that reads back as the same double, always with a "." or an exponent ("1.0", "1.5e+300",
 * "NaN", "Infinity", "-Infinity"). Locale independent. Returns the length. */
size_t lumo_double_text(double v, char out[32]);
/* Such texts and any other decimal number, to the nearest double. False for a number beyond the largest
 * double. */
bool lumo_double_parse(const char *text, size_t len, double *v);

#endif
