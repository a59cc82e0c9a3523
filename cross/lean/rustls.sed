# An agent resumes no TLS session. The default is only put in its place, and comes with a cache all
# the same.
s/^ *resumption: Resumption::default(),$/resumption: Resumption::disabled(),/
