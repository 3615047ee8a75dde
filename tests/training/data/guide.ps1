# Config:
$ckpt = "X:\models\base.ckpt"; #Full path to model
$image_dir = "X:\training\concepts"; #Data set folder
$output = "X:\models\lora"; #Output folder for your
$reg_dir = "X:\training\reg"; #Only use these for

$train_batch_size           = 1        #Amount of images to
$learning_rate              = 0.0001   #Unet learning rate.
$text_encoder_learning_rate = 0.00005  #Text Encoder learning rate.
$num_epochs                 = 8        #Total number of epochs
$save_every_n_epochs        = 1        #Save checkpoints every X
$resolution                 = 512      #Resolution to work at.
$network_dim                = 128      #AKA Rank. Higher for
$network_alpha              = 128      #Must be equal or
$noise_offset               = 0.0      #Increases dynamic range of
$clip_skip                  = 2        #Set it to 2
$optimizer                  = "AdamW8bit" # Valid values: "AdamW", "AdamW8bit",
# Default AdamW8bit (old --use_8bit_adam). DAdaptation wants rates of 0.1 to 1.0.
$scheduler                  = "cosine_with_restarts"

# End of config

$learning_rate              = $learning_rate * $train_batch_size # Seems to work better

.\venv\Scripts\activate #Activate python venv before

accelerate launch --num_cpu_threads_per_process 8 `
    --network_module="networks.lora" `
    --pretrained_model_name_or_path=$ckpt --train_data_dir=$image_dir --reg_data_dir=$reg_dir --output_dir=$output `
    --caption_extension=".txt" --shuffle_caption --keep_tokens=1`
    --prior_loss_weight=1 `
    --resolution="$resolution" `
    --enable_bucket --min_bucket_reso=320 --max_bucket_reso=960 `
    --train_batch_size="$train_batch_size" `
    --learning_rate="$learning_rate" --unet_lr="$learning_rate" --text_encoder_lr=$text_encoder_learning_rate `
    --max_train_epochs=$num_epochs `
    --mixed_precision="fp16" --save_precision="fp16" `
    --optimizer_type="$optimizer" --xformers `
    --save_every_n_epochs="$save_every_n_epochs" `
    --save_model_as=safetensors `
    --clip_skip="$clip_skip" `
    --seed=420 `
        --flip_aug `
    --network_dim="$network_dim" --network_alpha="$network_alpha" `
    --max_token_length=225 `
    --cache_latents `
    --lr_scheduler="$scheduler" `

