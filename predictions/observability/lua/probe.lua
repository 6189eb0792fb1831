-- Try whether Redis takes writes. Given: seconds (for which the trace is kept). Returns 1.
redis.call('SET', KEY.probe, clock(), 'EX', given.seconds)
return 1
