# Keys of devices, users and CAs are Ed25519: nothing is signed or verified by ECDSA. Such a key is
# still read, and refused.
/^ *Self::\(Sk\)\{0,1\}Ecdsa[A-Za-z0-9]*(\(pk\|keypair\)) =>/d
