-- Events have another epoch from here on; whoever began with the one before commits nothing more. $1 epoch.
UPDATE log_head SET epoch = $1
