-- Announce a chunk of sound that is stored. Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
emit(given.id, EVENT.audio, given.chunk)
return 1
