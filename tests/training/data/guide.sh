#Set these paths as
WEBUI_DIR="/data/webui/" # SD-webui folder
MODEL_DIR="/data/models/" # Model folder
TRAIN_DIR="/data/scripts" # Kohya scripts folder

function training_Kohya_lora {
    cd "$TRAIN_DIR" || {
        echo "Folder not found or not accessible."; exit 1

    local training_set="penny" #Set this to the
    local ckpt="$MODEL_DIR/base.ckpt" # Base model(checkpoint) to finetune
    local image_dir="$TRAIN_DIR/SETS/$training_set/"
    local reg_dir="$TRAIN_DIR/SETS/$training_set/reg/" #Regulation image folder. Optional,
    local output="/data/loras/" #Folder to save outputs.

    local learning_rate="0.0001" #Learning rate. Remember this
    local text_encoder_lr="0.00005" #Learning rate for TEXT
    local train_batch_size="2" #Amount of images to
    local num_epochs="6" #Total number of epochs
    local save_every_x_epochs="2" #Save checkpoints every X
    local network_dim="160" #Higher for more resemblance
    local scheduler="cosine_with_restarts"

    . venv/bin/activate #Activate your venv before

    accelerate launch --num_cpu_threads_per_process 8  --network_module="networks.lora"    --pretrained_model_name_or_path="$ckpt" --train_data_dir="$image_dir" --reg_data_dir="$reg_dir" --output_dir="$output"  --output_name="${training_set}_last_e${num_epochs}_n${network_dim}" --caption_extension=".txt" --shuffle_caption    --prior_loss_weight=1   --network_alpha="$network_dim"  --resolution=512    --enable_bucket --min_bucket_reso=320 --max_bucket_reso=768 --train_batch_size="$train_batch_size"  --gradient_accumulation_steps=1 --learning_rate="$learning_rate" --unet_lr="$learning_rate" --text_encoder_lr="$text_encoder_lr"    --max_train_epochs="$num_epochs"    --mixed_precision="fp16" --save_precision="fp16"    --use_8bit_adam --xformers  --save_every_n_epochs="$save_every_x_epochs"    --save_model_as=safetensors --clip_skip=2   --seed=420  --flip_aug --color_aug --face_crop_aug_range="2.0,4.0"  --network_dim="$network_dim"    --max_token_length=150  --lr_scheduler="$scheduler" --training_comment="LORA:$training_set"

training_Kohya_lora "$@"
