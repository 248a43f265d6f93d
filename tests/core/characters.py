"""Characters that control a terminal, or are invisible, instead of being shown."""

ACTING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029",
    *"\u00ad\u180e\u200b\u2060\u2064\u206a\u206f\ufeff",
    *"\ud800\udbff\udc00\udfff",
]
