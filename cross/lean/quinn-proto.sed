# An agent's connections have a congestion controller of their own. The default is only put in its
# place, and comes with cube roots all the same; the simpler one has none.
s/CubicConfig::default()/NewRenoConfig::default()/
