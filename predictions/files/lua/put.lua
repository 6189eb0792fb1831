-- Remember an uploaded file. Given: id, owner, fields (a flat list). Returns the flat record.
local key, time = KEY.file(given.id), clock()
redis.call('HSET', key, 'id', given.id, 'owner', given.owner, 'created_at', time, unpack(given.fields))
redis.call('ZADD', KEY.files, time, given.id)
redis.call('ZADD', KEY.owner_files(given.owner), time, given.id)
return redis.call('HGETALL', key)
