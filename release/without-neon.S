/* ring's functions with NEON, which an ARMv6 binary does not have (release/compile). Nobody calls them: ring's feature that
   hides NEON (lib/http/Cargo.toml) sees to that. A version of ring with others, or with another prefix, does not link. */
  .syntax unified
  .code 32
  .text
  .macro absent name
  .globl ring_core_0_17_14__\name
  .hidden ring_core_0_17_14__\name
  .type ring_core_0_17_14__\name, %function
ring_core_0_17_14__\name:
  .endm
  absent ChaCha20_ctr32_neon
  absent CRYPTO_poly1305_finish_neon
  absent CRYPTO_poly1305_init_neon
  absent CRYPTO_poly1305_update_neon
  absent bn_mul8x_mont_neon
  absent bsaes_ctr32_encrypt_blocks
  absent gcm_ghash_neon
  absent gcm_gmult_neon
  absent gcm_init_neon
  absent sha256_block_data_order_neon
  absent sha512_block_data_order_neon
  absent vpaes_ctr32_encrypt_blocks
  absent vpaes_encrypt_key_to_bsaes
  absent vpaes_set_encrypt_key
  absent x25519_NEON
  udf #0
