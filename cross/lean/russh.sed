# An agent exchanges keys by Curve25519 alone (with ML-KEM or without): no finite fields, no curves of
# NIST's. Entries of the table, the list and the enum, and what would make one of them.
/^ *h\.insert(&\(DH\|ECDH\)_/d
/^ *&\(DH\|ECDH\)_[A-Z0-9_]*,$/d
/^const _\(DH\|ECDH\)_/d
/^ *\(DhGroup\|EcdhNist\)[A-Za-z0-9]*Kex[A-Za-z0-9]*(.*),$/d
/^impl KexType for \(Dh\|EcdhNist\)/,/^}/d
# Of AES it offers GCM, and CTR with a long key; no MAC of SHA-1.
/^ *h\.insert(&AES_\(128_CTR\|192_CTR\|[0-9]*_CBC\),/d
/^ *&AES_\(128_CTR\|192_CTR\|[0-9]*_CBC\),$/d
/^ *h\.insert(&HMAC_SHA1/d
/^ *&HMAC_SHA1[A-Z_]*,$/d
