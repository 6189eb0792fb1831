-- A prediction's events after one of them. Given: id, after (the id of the last event that is known).
-- Returns the stream's entries; nothing where there is no such prediction.
local key = KEY.events(given.id)
if redis.call('EXISTS', key) == 0 then return false end
return redis.call('XRANGE', key, '(' .. given.after, '+')
