-- Remember an uploaded file; `record` has its fields. Returns the flat record.
local id, owner, time = given.record.id, given.record.owner, clock()
set(KEY.file(id), given.record)
redis.call('HSET', KEY.file(id), 'created_at', time)
redis.call('ZADD', KEY.files, time, id)
redis.call('ZADD', KEY.owner_files(owner), time, id)
return redis.call('HGETALL', KEY.file(id))
