/* A number of 512 bits modulo l = 2^252 + 27742317777372353535851937790883648493, the order of edwards25519 (RFC 8032 5.1),
   for ring's x25519_sc_reduce, which is spelled out in 3.7 kB on ARM. Bit by bit: a tenth of a millisecond for each signature
   that is checked, the same whatever the bits are. */
#include <stdint.h>

static void small_sc_reduce(uint8_t s[64]) {
  static const uint32_t l[8] = {0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000};
  uint32_t rest[8] = {0};
  for (int bit = 511; bit >= 0; bit--) {
    /* Twice the rest and the next bit are less than 2 l, so that l fits once or not at all. */
    uint32_t carry = s[bit >> 3] >> (bit & 7) & 1, borrow = 0, less[8];
    for (int i = 0; i < 8; i++) {
      uint32_t word = rest[i];
      rest[i] = word << 1 | carry;
      carry = word >> 31;
      uint64_t difference = (uint64_t)rest[i] - l[i] - borrow;
      less[i] = (uint32_t)difference;
      borrow = (uint32_t)(difference >> 63);
    }
    uint32_t keep = 0 - borrow;
    for (int i = 0; i < 8; i++) rest[i] = (rest[i] & keep) | (less[i] & ~keep);
  }
  for (int i = 0; i < 32; i++) s[i] = (uint8_t)(rest[i / 4] >> (8 * (i % 4)));
}
