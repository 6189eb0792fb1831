-- Announce a chunk of audio that is stored. Given: id, attempt, chunk (as JSON).
-- Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
emit(given.id, EVENT.audio, given.chunk)
return 1
