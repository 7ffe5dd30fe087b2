select end_trial($1, $2, $3, $4)
