-- Forget an uploaded file. Given: id. Returns 1, or 0 where there is none.
local record = redis.call('HMGET', KEY.file(given.id), 'owner', 'stored_bytes')
if record[1] then redis.call('ZREM', KEY.owner_files(record[1]), given.id) end
if record[2] then count_stored(record[1], -record[2]) end
redis.call('ZREM', KEY.files, given.id)
return redis.call('DEL', KEY.file(given.id))
