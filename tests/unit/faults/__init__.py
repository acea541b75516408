"""The faults that tests plant at the wire do what they say: a fault that does nothing would prove nothing."""
