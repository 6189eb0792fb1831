-- Forget an uploaded file. Given: id. Returns 1, or 0 where there is none.
local owner = redis.call('HGET', KEY.file(given.id), 'owner')
if owner then redis.call('ZREM', KEY.owner_files(owner), given.id) end
redis.call('ZREM', KEY.files, given.id)
return redis.call('DEL', KEY.file(given.id))
