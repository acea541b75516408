"""The stages: what happens between a source topic and a sink, as Faust apps of pure steps."""
