-- A prediction's events after one of them. ARGV: id, the last event's id that is known ('0-0' for none).
-- Returns the entries, or nothing where there is no such prediction.
local key = 'musicgen:events:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return false end
return redis.call('XRANGE', key, '(' .. ARGV[2], '+')
