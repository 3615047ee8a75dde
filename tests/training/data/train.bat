@echo off
rem Everything that changes stands here
set "MODEL=C:\My Models\base.safetensors"
set DATA=C:\training\mika
set /a BATCH=2*2
:: call C:\kohya\venv\Scripts\activate
accelerate launch --num_cpu_threads_per_process 1 sd-scripts\sdxl_train_network.py ^
  --pretrained_model_name_or_path="%MODEL%" ^
  --train_data_dir="%DATA%" --output_dir="%DATA%\out" --output_name=mika ^
  --train_batch_size=%BATCH% --max_train_steps 500 ^
  --network_module networks.lora --network_dim 8 --network_alpha 4 ^
  --optimizer_type Prodigy --optimizer_args "d_coef=2" "weight_decay=0.01" ^
  --learning_rate 1 --unet_lr 1 --text_encoder_lr 1 1 ^
  --adaptive_noise_scale -0.1 --noise_offset 0.05 --cache_latents & pause
