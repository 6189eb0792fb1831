-- An uploaded file. Given: id. Returns the flat record, empty where there is none.
return redis.call('HGETALL', KEY.file(given.id))
