-- A prediction's events after the one whose id is `after` ('0-0' for all). Returns the entries of the stream, or nothing
-- where there is no such prediction.
if redis.call('EXISTS', KEY.events(given.id)) == 0 then return false end
return redis.call('XRANGE', KEY.events(given.id), '(' .. given.after, '+')
